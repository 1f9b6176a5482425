#include "cuda/rank_lora/gated_expand_kernel.cuh"

namespace moek::cuda {

void launch_gated_expand_f16(const Expand& expand, const moek_rank_lora_args& args, const GateRows& rows,
                             cudaStream_t stream) {
    with_weight_type<float16>(expand.types.weight_dtype, [&](auto stored) {
        launch_gated_expand<float16, decltype(stored), Math::kTensorCore>(expand, args, rows, stream);
    });
}

}  // namespace moek::cuda
