#include "cuda/rank_lora/gated_expand_kernel.cuh"

namespace moek::cuda {

void launch_gated_expand_f32(const Expand& expand, const moek_rank_lora_args& args, const GateRows& rows,
                             cudaStream_t stream) {
    with_float_math(expand.types.tf32, [&](auto math) {
        launch_gated_expand<float, float, decltype(math)::value>(expand, args, rows, stream);
    });
}

}  // namespace moek::cuda
