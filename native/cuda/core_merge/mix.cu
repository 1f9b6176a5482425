#include "cuda/core_merge/mix.hpp"
#include "cuda/core_merge/mix_launch.hpp"

namespace moek::cuda {

void run_mix(const moek_core_merge_args& args, const Mix& mix, cudaStream_t stream) {
    switch (mix.types.token_dtype) {
        case MOEK_DTYPE_BF16:
            return launch_mix_bf16(args, mix, stream);
        case MOEK_DTYPE_F16:
            return launch_mix_f16(args, mix, stream);
        default:
            return launch_mix_f32(args, mix, stream);
    }
}

}  // namespace moek::cuda
