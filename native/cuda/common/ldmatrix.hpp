// Loads of 8 x 8 matrices of 16-bit elements from shared memory into the fragments of a warp.
//
// Lane 8 i + j gives the address of row j of matrix i: 16 bytes, 16-byte aligned, in shared memory. (x2: lanes 16..31 are
// not asked, but must pass a valid address.) Lane l then holds in r[i] the elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4
// of matrix i; `trans` hands out the transposed matrix. All 32 lanes take part.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/shared_memory.hpp"

#if !defined(__CUDACC__)
#include "emulation/ldmatrix.hpp"
#endif

namespace moek::cuda {

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
#if defined(__CUDACC__)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#else
    emulation::ldmatrix<false>(r, row);
#endif
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
#if defined(__CUDACC__)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#else
    emulation::ldmatrix<true>(r, row);
#endif
}

__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
#if defined(__CUDACC__)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
#else
    emulation::ldmatrix<false>(r, row);
#endif
}

__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
#if defined(__CUDACC__)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
#else
    emulation::ldmatrix<true>(r, row);
#endif
}

}  // namespace moek::cuda
