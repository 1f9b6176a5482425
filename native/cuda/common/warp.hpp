// Reductions over the lanes of a warp, or over aligned groups of kWidth lanes in it. All 32 lanes take part, and every
// lane gets the result of its group.
//
// The order is a fixed butterfly, in which both partners add the same two numbers: the bits depend on neither the lane nor
// the schedule.
#pragma once

#include <cuda_runtime.h>

namespace moek::cuda {

inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

template <int kWidth = 32>
__device__ __forceinline__ float warp_sum(float value) {
    static_assert(kWidth > 0 && kWidth <= 32 && (kWidth & (kWidth - 1)) == 0, "kWidth is a power of two up to 32");
#pragma unroll
    for (int distance = kWidth / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(kAllLanes, value, distance);
    }
    return value;
}

// NaN never wins: a NaN counts as -infinity unless all are NaN.
template <int kWidth = 32>
__device__ __forceinline__ float warp_max(float value) {
    static_assert(kWidth > 0 && kWidth <= 32 && (kWidth & (kWidth - 1)) == 0, "kWidth is a power of two up to 32");
#pragma unroll
    for (int distance = kWidth / 2; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
    }
    return value;
}

}  // namespace moek::cuda
