// The product with [A; W_r] and the gate behind it, in one kernel.
#pragma once

#include <cuda_runtime.h>

#include "cuda/gemm/shrink.hpp"
#include "cuda/rank_lora/gate_rows.hpp"
#include "moekernels.h"

namespace moek::cuda {

// `shrink` has one part, one column tile and one split; its partials are not used, `rows` tells where h goes.
void run_shrink_gate(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows, cudaStream_t stream);

void launch_shrink_gate_f32(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                            cudaStream_t stream);
void launch_shrink_gate_bf16(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                             cudaStream_t stream);
void launch_shrink_gate_f16(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                            cudaStream_t stream);

}  // namespace moek::cuda
