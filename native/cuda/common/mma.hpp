// Tensor-core products of one warp: d += a * b on fragments in registers.
//
// With g = lane / 4 and t = lane % 4, a lane holds (two 16-bit elements or one tf32 element per register):
//   m16n8k16   a[0] A[g][2t, 2t+1]   a[1] A[g+8][2t, 2t+1]   a[2] A[g][2t+8, 2t+9]   a[3] A[g+8][2t+8, 2t+9]
//              b[0] B[2t, 2t+1][g]   b[1] B[2t+8, 2t+9][g]
//   m16n8k8    a[0] A[g][t]   a[1] A[g+8][t]   a[2] A[g][t+4]   a[3] A[g+8][t+4]     b[0] B[t][g]   b[1] B[t+4][g]
//   both       d[0], d[1] D[g][2t, 2t+1]   d[2], d[3] D[g+8][2t, 2t+1]
// All 32 lanes take part. Products are exact; how the hardware rounds their sum is not specified.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/element.hpp"

#if !defined(__CUDACC__)
#include "emulation/mma.hpp"
#endif

namespace moek::cuda {

template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
__device__ __forceinline__ void mma_m16n8k16<bfloat16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDACC__)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    emulation::mma(emulation::MmaKind::kM16N8K16Bf16, d, a, b);
#endif
}

template <>
__device__ __forceinline__ void mma_m16n8k16<float16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDACC__)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    emulation::mma(emulation::MmaKind::kM16N8K16F16, d, a, b);
#endif
}

// The operands are bits of floats, of which the tensor core ignores the last 13; see to_tf32.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDACC__)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    emulation::mma(emulation::MmaKind::kM16N8K8Tf32, d, a, b);
#endif
}

// `value` rounded to the 10 fraction bits of tf32, ties away from zero, as the bits of a float.
__device__ __forceinline__ uint32_t to_tf32(float value) {
#if defined(__CUDACC__)
    uint32_t result;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(result) : "f"(value));
    return result;
#else
    return emulation::tf32_from_float(value);
#endif
}

}  // namespace moek::cuda
