// The product with [A; W_r] and the gate behind it in clusters that share the weights, see cuda/gemm/cluster_shrink.hpp.
#pragma once

#include "cuda/rank_lora/shrink_gate.hpp"

namespace moek::cuda {

// False when tensor copies cannot bring the operands: nothing has been launched then. The results are those of
// shrink_gate_kernel, bit for bit.
bool run_cluster_shrink_gate(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                             cudaStream_t stream);

bool launch_cluster_shrink_gate_bf16(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                                     cudaStream_t stream);
bool launch_cluster_shrink_gate_f16(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                                    cudaStream_t stream);

}  // namespace moek::cuda
