#include "cuda/rank_lora/shrink_gate_kernel.cuh"

namespace moek::cuda {

void launch_shrink_gate_f32(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                            cudaStream_t stream) {
    with_float_math(shrink.types.tf32, [&](auto math) {
        launch_shrink_gate<float, float, decltype(math)::value>(shrink, args, rows, stream);
    });
}

}  // namespace moek::cuda
