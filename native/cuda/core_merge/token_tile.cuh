// What the steps before and behind the cores share: a tile of kBlockRows tokens belongs to a block of kProductThreads.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/warp.hpp"
#include "cuda/gemm/product.hpp"

namespace moek::cuda {

// The product of f32 rows with a router's rows, 32 of them at a time.
template <Along kAlong>
using RouterProduct = Product<Math::kExact, float, Along::kDepth, kAlong, 32>;

// The rows of a dense f32 matrix [T, elements] as a left operand.
__device__ __forceinline__ TokenSource<float> dense_rows(const float* data, int64_t T, int elements) {
    TokenSource<float> rows = {};
    rows.data = data;
    rows.stride = elements;
    rows.tokens = T;
    rows.elements = elements;
    rows.aligned = rows_are_aligned(data, elements);
    return rows;
}

// Two neighbouring lanes share a token in what goes over its p.
struct TokenPair {
    int64_t token;
    int half;

    __device__ __forceinline__ explicit TokenPair(int64_t first_token)
        : token(first_token + static_cast<int>(threadIdx.x) / 2), half(static_cast<int>(threadIdx.x) % 2) {}

    // The same bits for both: the even lane's part comes first.
    static __device__ __forceinline__ float sum(float value) { return value + __shfl_xor_sync(kAllLanes, value, 1); }
    static __device__ __forceinline__ float max(float value) {
        return fmaxf(value, __shfl_xor_sync(kAllLanes, value, 1));
    }
    static __device__ __forceinline__ bool any(bool value) {
        const int other = __shfl_xor_sync(kAllLanes, value ? 1 : 0, 1);
        return value || other != 0;
    }
};
static_assert(2 * kBlockRows == kProductThreads);

}  // namespace moek::cuda
