// Where a kernel writes finished weight gradients: any gradient type, either orientation, added or not.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/element.hpp"
#include "cuda/gemm/weight_gradient.hpp"

namespace moek::cuda {

struct GradientTargets {
    GradientTarget target[2];
    int32_t targets;
    int32_t dtype;
    int32_t accumulate;

    // Writes, or adds and rounds once, the gradient of (column of L, element of X).
    __device__ __forceinline__ void store(int column, int element, float value) const {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const GradientTarget& own = target[i];
            const int row = column - own.first_column;
            if (i >= targets || own.data == nullptr || row < 0 || row >= own.columns) continue;
            const int64_t index = own.transposed ? element * own.stride + row : row * own.stride + element;
            switch (dtype) {
                case MOEK_DTYPE_F32:
                    add(static_cast<float*>(own.data) + index, value);
                    break;
                case MOEK_DTYPE_BF16:
                    add(static_cast<bfloat16*>(own.data) + index, value);
                    break;
                default:
                    add(static_cast<float16*>(own.data) + index, value);
                    break;
            }
        }
    }

  private:
    template <class T>
    __device__ __forceinline__ void add(T* place, float value) const {
        *place = from_float<T>(accumulate != 0 ? to_float(*place) + value : value);
    }
};

inline GradientTargets targets_of(const WeightGradient& gradient) {
    return {{gradient.target[0], gradient.target[1]},
            gradient.targets,
            gradient.gradient_dtype,
            gradient.accumulate ? 1 : 0};
}

}  // namespace moek::cuda
