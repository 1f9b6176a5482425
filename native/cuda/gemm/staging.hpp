// A block's finished sums in shared memory, so that they can be written in whole lines instead of mma's fragments.
#pragma once

#include <cuda_runtime.h>

#include "cuda/gemm/product.hpp"

namespace moek::cuda {

// The sums of P as floats [kBlockRows][kPitch].
template <class P, int kPadding>
struct Staging {
    static constexpr int kPitch = P::kBlockColumns + kPadding;
    static_assert(kBlockRows * kPitch * static_cast<int>(sizeof(float)) <= P::kSharedBytes);

    // All threads of the block take part; `shared` is the product's own memory. Done when this returns, for everyone.
    static __device__ __forceinline__ float* put(typename P::Sums& sums, unsigned char* shared) {
        float* const staged = reinterpret_cast<float*>(shared);
        sums.for_each([&](int row, int column, float& sum) { staged[row * kPitch + column] = sum; });
        __syncthreads();
        return staged;
    }

    // Takes them back; the memory is free for everyone when this returns.
    static __device__ __forceinline__ void get(typename P::Sums& sums, const unsigned char* shared) {
        const float* const staged = reinterpret_cast<const float*>(shared);
        sums.for_each([&](int row, int column, float& sum) { sum = staged[row * kPitch + column]; });
        __syncthreads();
    }
};

}  // namespace moek::cuda
