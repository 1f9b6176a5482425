#include "cuda/rank_lora/cluster_shrink_gate.hpp"
#include "cuda/rank_lora/shrink_gate.hpp"

namespace moek::cuda {

void run_shrink_gate(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows, cudaStream_t stream) {
    if (shrink.plan.cluster > 1 && run_cluster_shrink_gate(shrink, args, rows, stream)) return;
    switch (shrink.types.token_dtype) {
        case MOEK_DTYPE_BF16:
            return launch_shrink_gate_bf16(shrink, args, rows, stream);
        case MOEK_DTYPE_F16:
            return launch_shrink_gate_f16(shrink, args, rows, stream);
        default:
            return launch_shrink_gate_f32(shrink, args, rows, stream);
    }
}

}  // namespace moek::cuda
