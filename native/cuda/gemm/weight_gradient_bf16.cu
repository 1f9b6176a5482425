#include "cuda/gemm/weight_gradient_kernel.cuh"
#include "cuda/gemm/weight_gradient_launch.hpp"

namespace moek::cuda {

void launch_weight_gradient_bf16(const WeightGradient& gradient, cudaStream_t stream) {
    launch_weight_gradient<bfloat16, Math::kTensorCore>(gradient, stream);
}

}  // namespace moek::cuda
