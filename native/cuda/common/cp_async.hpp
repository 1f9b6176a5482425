// Asynchronous copies from global to shared memory.
//
// cp_async<bytes>(dst, src, valid_bytes) copies the first valid_bytes of src (0..bytes) and fills the rest of the `bytes` at
// dst with zeros; both addresses are aligned to `bytes`, also when nothing is read. 16 bytes bypass L1, 4 and 8 go through
// it. The data is there for this thread after the wait, for others after a barrier that follows the wait.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/shared_memory.hpp"

#if !defined(__CUDACC__)
#include "emulation/async_copy.hpp"
#endif

namespace moek::cuda {

template <int kBytes>
__device__ __forceinline__ void cp_async(void* dst, const void* src, int valid_bytes) {
    static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async copies 4, 8 or 16 bytes");
#if defined(__CUDACC__)
    if constexpr (kBytes == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :
                     : "r"(shared_address(dst)), "l"(__cvta_generic_to_global(src)), "r"(valid_bytes)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                     :
                     : "r"(shared_address(dst)), "l"(__cvta_generic_to_global(src)), "n"(kBytes), "r"(valid_bytes)
                     : "memory");
    }
#else
    emulation::async_copy<kBytes>(dst, src, valid_bytes);
#endif
}

// Closes the group of copies issued since the last commit.
__device__ __forceinline__ void cp_async_commit() {
#if defined(__CUDACC__)
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emulation::async_copy_commit();
#endif
}

// Waits until at most kPending of this thread's groups, the newest ones, are still under way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
#if defined(__CUDACC__)
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#else
    emulation::async_copy_wait(kPending);
#endif
}

}  // namespace moek::cuda
