// mbarriers (sm_90): 8-byte objects in shared memory, each of which completes a phase when as many threads have arrived as it
// was initialised with, and all bytes have come that they announced. Phases alternate in parity: the first is 0.
//
// One thread initialises a barrier and fences that; others may use it after a barrier of the block, other blocks after one of
// the cluster.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/shared_memory.hpp"

#if !defined(__CUDACC__)
#include "emulation/execution/mbarrier.hpp"
#endif

namespace moek::cuda {

__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, uint32_t arrivals) {
#if defined(__CUDACC__)
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#else
    emulation::mbarrier_init(barrier, arrivals);
#endif
}

// Shows the barriers that this thread has initialised to the cluster and to asynchronous copies.
__device__ __forceinline__ void mbarrier_fence_init() {
#if defined(__CUDACC__)
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
    emulation::mbarrier_fence_init();
#endif
}

// Announces bytes that asynchronous copies will bring in this phase, and arrives.
__device__ __forceinline__ void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
#if defined(__CUDACC__)
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
#else
    emulation::mbarrier_arrive_expect(barrier, bytes);
#endif
}

// Arrives at the barrier that block `rank` of the cluster has in this place. It tells that this thread has read what it wanted
// from its own block's memory; what it has written elsewhere may be seen later (that would take `release.cluster`, which waits
// for L2 each time).
__device__ __forceinline__ void mbarrier_arrive_at(uint64_t* barrier, uint32_t rank) {
#if defined(__CUDACC__)
    asm volatile(
        "{\n"
        "    .reg .b32 remote;\n"
        "    mapa.shared::cluster.u32 remote, %0, %1;\n"
        "    mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
        "}" ::"r"(shared_address(barrier)),
        "r"(rank)
        : "memory");
#else
    emulation::mbarrier_arrive_at(barrier, rank);
#endif
}

// Waits until the phase of this parity has completed: returns at once when the barrier is in a phase of the other one. What
// copies brought in that phase is there then.
__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
#if defined(__CUDACC__)
    uint32_t done;
    do {
        asm volatile(
            "{\n"
            "    .reg .pred done;\n"
            "    mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
            "    selp.u32 %0, 1, 0, done;\n"
            "}"
            : "=r"(done)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
    } while (done == 0);
#else
    emulation::mbarrier_wait(barrier, parity);
#endif
}

}  // namespace moek::cuda
