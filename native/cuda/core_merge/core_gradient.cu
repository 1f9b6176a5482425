#include "cuda/core_merge/core_gradient.hpp"
#include "cuda/core_merge/core_gradient_launch.hpp"
#include "cuda/gemm/gradient_sum.hpp"

namespace moek::cuda {

WeightGradient make_core_gradient(const Device& device, const moek_core_merge_args& args, const OperandTypes& types,
                                  const TokenOperand& dv) {
    const int32_t weighted_ranks = static_cast<int32_t>(args.E * args.r);
    WeightGradient gradient;
    gradient.left = dv;
    gradient.tokens.elements = weighted_ranks;
    // A column of dv is a column of every core.
    gradient.target[0] = {args.dC, args.r, 0, static_cast<int32_t>(args.r), true};
    gradient.T = args.T;
    gradient.types = types;
    gradient.gradient_dtype = args.grad_dtype;
    gradient.accumulate = (args.flags & MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS) != 0;
    plan_weight_gradient(device, gradient);
    return gradient;
}

void run_core_gradient(const moek_core_merge_args& args, const WeightGradient& gradient, cudaStream_t stream) {
    switch (gradient.types.token_dtype) {
        case MOEK_DTYPE_BF16:
            launch_core_gradient_bf16(args, gradient, stream);
            break;
        case MOEK_DTYPE_F16:
            launch_core_gradient_f16(args, gradient, stream);
            break;
        default:
            launch_core_gradient_f32(args, gradient, stream);
            break;
    }
    if (gradient.plan.splits > 1) run_gradient_sum(gradient, stream);
}

}  // namespace moek::cuda
