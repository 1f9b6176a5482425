#include "cuda/rank_lora/shrink_gate_kernel.cuh"

namespace moek::cuda {

void launch_shrink_gate_bf16(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                             cudaStream_t stream) {
    with_weight_type<bfloat16>(shrink.types.weight_dtype, [&](auto stored) {
        launch_shrink_gate<bfloat16, decltype(stored), Math::kTensorCore>(shrink, args, rows, stream);
    });
}

}  // namespace moek::cuda
