// Runs of elements between global memory and registers: 16 bytes at a time where a row allows it, element by element at
// its end and in rows that are not aligned.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace moek::cuda {

// Elements of T in 16 bytes.
template <class T>
inline constexpr int kVectorElements = static_cast<int>(16 / sizeof(T));

// Whether every row of a matrix starts at a multiple of 16 bytes, so that its vectors may be read at once.
template <class T>
__host__ __device__ __forceinline__ bool rows_are_aligned(const T* base, int64_t row_stride) {
    return reinterpret_cast<uintptr_t>(base) % 16 == 0 && row_stride * static_cast<int64_t>(sizeof(T)) % 16 == 0;
}

template <class T>
struct alignas(16) Vector {
    T element[kVectorElements<T>];
};

// The elements at `source`, of which `valid` exist (may be <= 0 or more than a vector); the others become all-zero bits.
template <class T>
__device__ __forceinline__ Vector<T> load_vector(const T* source, int64_t valid, bool aligned) {
    if (aligned && valid >= kVectorElements<T>) return *reinterpret_cast<const Vector<T>*>(source);
    Vector<T> result;
#pragma unroll
    for (int i = 0; i < kVectorElements<T>; ++i) result.element[i] = i < valid ? source[i] : T{};
    return result;
}

// Stores the first `valid` elements of `value` at `target`.
template <class T>
__device__ __forceinline__ void store_vector(T* target, const Vector<T>& value, int64_t valid, bool aligned) {
    if (aligned && valid >= kVectorElements<T>) {
        *reinterpret_cast<Vector<T>*>(target) = value;
        return;
    }
#pragma unroll
    for (int i = 0; i < kVectorElements<T>; ++i) {
        if (i < valid) target[i] = value.element[i];
    }
}

}  // namespace moek::cuda
