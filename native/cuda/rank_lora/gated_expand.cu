#include "cuda/rank_lora/gated_expand.hpp"

namespace moek::cuda {

void run_gated_expand(const Expand& expand, const moek_rank_lora_args& args, const GateRows& rows,
                      cudaStream_t stream) {
    switch (expand.types.token_dtype) {
        case MOEK_DTYPE_BF16:
            return launch_gated_expand_bf16(expand, args, rows, stream);
        case MOEK_DTYPE_F16:
            return launch_gated_expand_f16(expand, args, rows, stream);
        default:
            return launch_gated_expand_f32(expand, args, rows, stream);
    }
}

}  // namespace moek::cuda
