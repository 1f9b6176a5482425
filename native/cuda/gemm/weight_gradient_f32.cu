#include "cuda/gemm/weight_gradient_kernel.cuh"
#include "cuda/gemm/weight_gradient_launch.hpp"

namespace moek::cuda {

void launch_weight_gradient_f32(const WeightGradient& gradient, cudaStream_t stream) {
    with_float_math(gradient.types.tf32,
                    [&](auto math) { launch_weight_gradient<float, decltype(math)::value>(gradient, stream); });
}

}  // namespace moek::cuda
