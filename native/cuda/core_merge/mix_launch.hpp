// The launches of mix, one file for each type of token: they compile side by side.
#pragma once

#include "cuda/core_merge/mix.hpp"

namespace moek::cuda {

void launch_mix_f32(const moek_core_merge_args& args, const Mix& mix, cudaStream_t stream);
void launch_mix_bf16(const moek_core_merge_args& args, const Mix& mix, cudaStream_t stream);
void launch_mix_f16(const moek_core_merge_args& args, const Mix& mix, cudaStream_t stream);

}  // namespace moek::cuda
