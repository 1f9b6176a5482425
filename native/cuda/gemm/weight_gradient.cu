#include "cuda/gemm/gradient_sum.hpp"
#include "cuda/gemm/weight_gradient.hpp"
#include "cuda/gemm/weight_gradient_launch.hpp"

namespace moek::cuda {

void plan_weight_gradient(const Device& device, WeightGradient& gradient) {
    gradient.plan = moek::plan_weight_gradient(gradient.T, gradient.tokens.elements, gradient.left.elements,
                                               gradient.types.token_dtype == MOEK_DTYPE_F32 ? 4 : 2, device.sm_count);
}

void run_weight_gradient(const WeightGradient& gradient, cudaStream_t stream) {
    switch (gradient.types.token_dtype) {
        case MOEK_DTYPE_BF16:
            launch_weight_gradient_bf16(gradient, stream);
            break;
        case MOEK_DTYPE_F16:
            launch_weight_gradient_f16(gradient, stream);
            break;
        default:
            launch_weight_gradient_f32(gradient, stream);
            break;
    }
    if (gradient.plan.splits > 1) run_gradient_sum(gradient, stream);
}

}  // namespace moek::cuda
