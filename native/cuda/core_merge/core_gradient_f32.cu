#include "cuda/core_merge/core_gradient_kernel.cuh"
#include "cuda/core_merge/core_gradient_launch.hpp"

namespace moek::cuda {

void launch_core_gradient_f32(const moek_core_merge_args& args, const WeightGradient& gradient, cudaStream_t stream) {
    with_float_math(gradient.types.tf32,
                    [&](auto math) { launch_core_gradient<float, decltype(math)::value>(args, gradient, stream); });
}

}  // namespace moek::cuda
