#include "cuda/rank_lora/cluster_shrink_gate.hpp"

namespace moek::cuda {

bool run_cluster_shrink_gate(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                             cudaStream_t stream) {
    return shrink.types.token_dtype == MOEK_DTYPE_BF16 ? launch_cluster_shrink_gate_bf16(shrink, args, rows, stream)
                                                       : launch_cluster_shrink_gate_f16(shrink, args, rows, stream);
}

}  // namespace moek::cuda
