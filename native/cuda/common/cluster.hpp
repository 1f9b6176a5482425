// Clusters (sm_90): neighbouring blocks of the grid that run at the same time and reach each other's shared memory. Without
// them in the launch every block is a cluster of its own.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#if !defined(__CUDACC__)
#include "emulation/execution/cluster.hpp"
#endif

namespace moek::cuda {

// This block's number in its cluster, from 0 on.
__device__ __forceinline__ uint32_t cluster_rank() {
#if defined(__CUDACC__)
    uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
#else
    return emulation::cluster_rank();
#endif
}

// Blocks of the cluster.
__device__ __forceinline__ uint32_t cluster_size() {
#if defined(__CUDACC__)
    uint32_t size;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return size;
#else
    return emulation::cluster_size();
#endif
}

// The cluster's barrier: every thread that has not finished arrives, goes on, and waits for the others later. It orders no
// memory accesses. (An arrival that does, `release`, waits for all of the thread's stores to reach L2.) All lanes of a warp take
// part.
__device__ __forceinline__ void cluster_arrive_relaxed() {
#if defined(__CUDACC__)
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#else
    emulation::cluster_arrive();
#endif
}

__device__ __forceinline__ void cluster_wait() {
#if defined(__CUDACC__)
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#else
    emulation::cluster_wait();
#endif
}

}  // namespace moek::cuda
