// The launches of core_gradient, one file for each type of token: they compile side by side.
#pragma once

#include "cuda/core_merge/core_gradient.hpp"

namespace moek::cuda {

void launch_core_gradient_f32(const moek_core_merge_args& args, const WeightGradient& gradient, cudaStream_t stream);
void launch_core_gradient_bf16(const moek_core_merge_args& args, const WeightGradient& gradient, cudaStream_t stream);
void launch_core_gradient_f16(const moek_core_merge_args& args, const WeightGradient& gradient, cudaStream_t stream);

}  // namespace moek::cuda
