// The launches of shrink, one file for each type of token: they compile side by side.
#pragma once

#include "cuda/gemm/shrink.hpp"

namespace moek::cuda {

void launch_shrink_f32(const Shrink& shrink, cudaStream_t stream);
void launch_shrink_bf16(const Shrink& shrink, cudaStream_t stream);
void launch_shrink_f16(const Shrink& shrink, cudaStream_t stream);

}  // namespace moek::cuda
