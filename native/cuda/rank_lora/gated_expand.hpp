// The gate and the product with B behind it, in one kernel for few tokens.
#pragma once

#include <cuda_runtime.h>

#include "cuda/gemm/expand.hpp"
#include "cuda/rank_lora/gate_rows.hpp"
#include "moekernels.h"

namespace moek::cuda {

// `expand` has one term, whose tokens are not used: h is made from `rows`, which tells where a and z are.
void run_gated_expand(const Expand& expand, const moek_rank_lora_args& args, const GateRows& rows, cudaStream_t stream);

void launch_gated_expand_f32(const Expand& expand, const moek_rank_lora_args& args, const GateRows& rows,
                             cudaStream_t stream);
void launch_gated_expand_bf16(const Expand& expand, const moek_rank_lora_args& args, const GateRows& rows,
                              cudaStream_t stream);
void launch_gated_expand_f16(const Expand& expand, const moek_rank_lora_args& args, const GateRows& rows,
                             cudaStream_t stream);

}  // namespace moek::cuda
