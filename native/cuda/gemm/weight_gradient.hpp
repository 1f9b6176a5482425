// Gradients of weights: G [columns, width] (+)= L [T, columns]^T X [T, width], a sum over all tokens. dA, dB, dW_r, dC.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/gemm/cuda_plan.hpp"
#include "cuda/common/device.hpp"
#include "cuda/gemm/operands.hpp"

namespace moek::cuda {

// Where columns of L have their gradients.
struct GradientTarget {
    void* data = nullptr;  // null: not wanted
    int64_t stride = 0;    // of its rows
    int32_t first_column = 0;
    int32_t columns = 0;
    bool transposed = false;  // [width, columns] instead of [columns, width]
};

struct WeightGradient {
    TokenOperand left;    // L [T, columns], elements of the operands' type
    TokenOperand tokens;  // X [T, width]
    GradientTarget target[2];
    int32_t targets = 1;
    int64_t T = 0;
    OperandTypes types;
    int32_t gradient_dtype = MOEK_DTYPE_F32;
    bool accumulate = false;
    float* partials = nullptr;  // [splits, columns, width]; null with one split
    ProductPlan plan;

    uint64_t partial_count() const {
        return plan.splits <= 1 ? 0
                                : static_cast<uint64_t>(plan.splits) * static_cast<uint64_t>(left.elements) *
                                      static_cast<uint64_t>(tokens.elements);
    }
};

// Fills in `plan`; everything but `partials` and the pointers must be there.
void plan_weight_gradient(const Device& device, WeightGradient& gradient);

// One launch, and with several splits another that adds them. T = 0 writes zeros unless accumulating.
void run_weight_gradient(const WeightGradient& gradient, cudaStream_t stream);

}  // namespace moek::cuda
