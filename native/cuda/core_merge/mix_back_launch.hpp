// The launches of mix_back, one file for each type of token: they compile side by side.
#pragma once

#include "cuda/core_merge/mix_back.hpp"

namespace moek::cuda {

void launch_mix_back_f32(const moek_core_merge_args& args, const MixBack& back, cudaStream_t stream);
void launch_mix_back_bf16(const moek_core_merge_args& args, const MixBack& back, cudaStream_t stream);
void launch_mix_back_f16(const moek_core_merge_args& args, const MixBack& back, cudaStream_t stream);

}  // namespace moek::cuda
