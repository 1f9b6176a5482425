// The launches of expand, one file for each type of token: they compile side by side.
#pragma once

#include "cuda/gemm/expand.hpp"

namespace moek::cuda {

void launch_expand_f32(const Expand& expand, cudaStream_t stream);
void launch_expand_bf16(const Expand& expand, cudaStream_t stream);
void launch_expand_f16(const Expand& expand, cudaStream_t stream);

}  // namespace moek::cuda
