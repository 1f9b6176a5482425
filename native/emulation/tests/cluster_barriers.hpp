// How kernels of the tests begin and end with mbarriers that other blocks of the cluster use, too.
#pragma once

#include "cuda/common/cluster.hpp"
#include "cuda/common/mbarrier.hpp"

namespace moek::emulation::test {

// By all threads of all blocks: `count` barriers for `arrivals` each.
inline __device__ void begin_cluster(uint64_t* barriers, int count, uint32_t arrivals) {
    if (threadIdx.x == 0) {
        for (int i = 0; i < count; ++i) cuda::mbarrier_init(barriers + i, arrivals);
        cuda::mbarrier_fence_init();
    }
    cuda::cluster_arrive_relaxed();
    cuda::cluster_wait();
}

// By all threads of all blocks: nobody needs another block's memory any more.
inline __device__ void end_cluster() {
    cuda::cluster_arrive_relaxed();
    cuda::cluster_wait();
}

}  // namespace moek::emulation::test
