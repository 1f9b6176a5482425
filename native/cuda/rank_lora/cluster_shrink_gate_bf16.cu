#include "cuda/rank_lora/cluster_shrink_gate.hpp"
#include "cuda/rank_lora/cluster_shrink_gate_kernel.cuh"

namespace moek::cuda {

bool launch_cluster_shrink_gate_bf16(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                                     cudaStream_t stream) {
    return launch_cluster_shrink_gate<bfloat16>(shrink, args, rows, stream);
}

}  // namespace moek::cuda
