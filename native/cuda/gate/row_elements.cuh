// The elements of a row that one thread holds: kCount neighbours, loaded and stored in as few instructions as their
// alignment allows.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/element.hpp"
#include "moekernels.h"

namespace moek::cuda {

// Bytes of one access.
template <class T, int kCount>
inline constexpr int kRunBytes = kCount* static_cast<int>(sizeof(T)) < 16 ? kCount* static_cast<int>(sizeof(T)) : 16;

template <class T, int kCount>
struct alignas(kRunBytes<T, kCount>) Run {
    T element[kRunBytes<T, kCount> / sizeof(T)];
};

// Whether every thread's first element is aligned for its accesses, in rows of elements of `element_bytes`.
inline bool runs_are_aligned(const void* base, int64_t row_stride, int element_bytes, int per_thread) {
    const int bytes = per_thread * element_bytes < 16 ? per_thread * element_bytes : 16;
    return reinterpret_cast<uintptr_t>(base) % static_cast<uintptr_t>(bytes) == 0 &&
           row_stride * element_bytes % bytes == 0;
}

// The elements at `source`, of which `valid` exist (may be <= 0 or more than kCount); the others become 0.
template <class T, int kCount>
__device__ __forceinline__ void load_elements(const T* source, int valid, bool aligned, float (&out)[kCount]) {
    constexpr int kRun = kRunBytes<T, kCount> / static_cast<int>(sizeof(T));
    if (aligned && valid >= kCount) {
#pragma unroll
        for (int start = 0; start < kCount; start += kRun) {
            const Run<T, kCount> run = *reinterpret_cast<const Run<T, kCount>*>(source + start);
#pragma unroll
            for (int i = 0; i < kRun; ++i) out[start + i] = to_float(run.element[i]);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) out[i] = i < valid ? to_float(source[i]) : 0.0f;
}

template <class T, int kCount>
__device__ __forceinline__ void store_elements(T* target, const float (&values)[kCount], int valid, bool aligned) {
    constexpr int kRun = kRunBytes<T, kCount> / static_cast<int>(sizeof(T));
    if (aligned && valid >= kCount) {
#pragma unroll
        for (int start = 0; start < kCount; start += kRun) {
            Run<T, kCount> run;
#pragma unroll
            for (int i = 0; i < kRun; ++i) run.element[i] = from_float<T>(values[start + i]);
            *reinterpret_cast<Run<T, kCount>*>(target + start) = run;
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
        if (i < valid) target[i] = from_float<T>(values[i]);
    }
}

// The same for elements whose type the call states; `index` counts elements from `base`.
template <int kCount>
__device__ __forceinline__ void load_elements_of(const void* base, int32_t dtype, int64_t index, int valid,
                                                 bool aligned, float (&out)[kCount]) {
    if (dtype == MOEK_DTYPE_F32) {
        load_elements(static_cast<const float*>(base) + index, valid, aligned, out);
    } else if (dtype == MOEK_DTYPE_BF16) {
        load_elements(static_cast<const bfloat16*>(base) + index, valid, aligned, out);
    } else {
        load_elements(static_cast<const float16*>(base) + index, valid, aligned, out);
    }
}

template <int kCount>
__device__ __forceinline__ void store_elements_of(void* base, int32_t dtype, int64_t index,
                                                  const float (&values)[kCount], int valid, bool aligned) {
    if (dtype == MOEK_DTYPE_F32) {
        store_elements(static_cast<float*>(base) + index, values, valid, aligned);
    } else if (dtype == MOEK_DTYPE_BF16) {
        store_elements(static_cast<bfloat16*>(base) + index, values, valid, aligned);
    } else {
        store_elements(static_cast<float16*>(base) + index, values, valid, aligned);
    }
}

}  // namespace moek::cuda
