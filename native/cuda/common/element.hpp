// Storage types of a kernel and their conversions to and from float.
//
// Towards float a conversion is exact. From float it rounds to nearest even; a NaN becomes the one NaN that the
// conversion instructions produce (all ones below the sign).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#if !defined(__CUDACC__)
#include "emulation/conversion.hpp"
#endif

namespace moek::cuda {

struct bfloat16 {
    uint16_t bits;
};

struct float16 {
    uint16_t bits;
};

__device__ __forceinline__ float to_float(float value) {
    return value;
}

__device__ __forceinline__ float to_float(bfloat16 value) {
    return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}

__device__ __forceinline__ float to_float(float16 value) {
#if defined(__CUDACC__)
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
#else
    return emulation::float_from_f16(value.bits);
#endif
}

// from_float<T>(value): `value` rounded to T.
template <class T>
__device__ __forceinline__ T from_float(float value);

template <>
__device__ __forceinline__ float from_float<float>(float value) {
    return value;
}

template <>
__device__ __forceinline__ bfloat16 from_float<bfloat16>(float value) {
#if defined(__CUDACC__)
    bfloat16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
#else
    return bfloat16{emulation::bf16_from_float(value)};
#endif
}

template <>
__device__ __forceinline__ float16 from_float<float16>(float value) {
#if defined(__CUDACC__)
    float16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
#else
    return float16{emulation::f16_from_float(value)};
#endif
}

// pack2<T>(low, high): both rounded to the 16-bit type T, as two neighbouring elements of memory.
template <class T>
__device__ __forceinline__ uint32_t pack2(float low, float high);

template <>
__device__ __forceinline__ uint32_t pack2<bfloat16>(float low, float high) {
#if defined(__CUDACC__)
    uint32_t result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
#else
    return emulation::bf16_from_float(low) | static_cast<uint32_t>(emulation::bf16_from_float(high)) << 16;
#endif
}

template <>
__device__ __forceinline__ uint32_t pack2<float16>(float low, float high) {
#if defined(__CUDACC__)
    uint32_t result;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
#else
    return emulation::f16_from_float(low) | static_cast<uint32_t>(emulation::f16_from_float(high)) << 16;
#endif
}

// The two neighbouring elements of T in `packed`: x is the one at the lower address.
template <class T>
__device__ __forceinline__ float2 unpack2(uint32_t packed) {
    const T low{static_cast<uint16_t>(packed)};
    const T high{static_cast<uint16_t>(packed >> 16)};
    return make_float2(to_float(low), to_float(high));
}

}  // namespace moek::cuda
