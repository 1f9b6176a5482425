#include "cuda/core_merge/mix_back.hpp"
#include "cuda/core_merge/mix_back_launch.hpp"

namespace moek::cuda {

void run_mix_back(const moek_core_merge_args& args, const MixBack& back, cudaStream_t stream) {
    switch (back.types.token_dtype) {
        case MOEK_DTYPE_BF16:
            return launch_mix_back_bf16(args, back, stream);
        case MOEK_DTYPE_F16:
            return launch_mix_back_f16(args, back, stream);
        default:
            return launch_mix_back_f32(args, back, stream);
    }
}

}  // namespace moek::cuda
