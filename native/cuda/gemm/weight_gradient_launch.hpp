// The launches of weight_gradient, one file for each type of token: they compile side by side.
#pragma once

#include "cuda/gemm/weight_gradient.hpp"

namespace moek::cuda {

void launch_weight_gradient_f32(const WeightGradient& gradient, cudaStream_t stream);
void launch_weight_gradient_bf16(const WeightGradient& gradient, cudaStream_t stream);
void launch_weight_gradient_f16(const WeightGradient& gradient, cudaStream_t stream);

}  // namespace moek::cuda
