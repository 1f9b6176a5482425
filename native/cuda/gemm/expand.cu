#include "cuda/gemm/expand.hpp"
#include "cuda/gemm/expand_launch.hpp"

namespace moek::cuda {

void run_expand(const Expand& expand, cudaStream_t stream) {
    switch (expand.types.token_dtype) {
        case MOEK_DTYPE_BF16:
            return launch_expand_bf16(expand, stream);
        case MOEK_DTYPE_F16:
            return launch_expand_f16(expand, stream);
        default:
            return launch_expand_f32(expand, stream);
    }
}

}  // namespace moek::cuda
