#include "cuda/core_merge/core_gradient_kernel.cuh"
#include "cuda/core_merge/core_gradient_launch.hpp"

namespace moek::cuda {

void launch_core_gradient_f16(const moek_core_merge_args& args, const WeightGradient& gradient, cudaStream_t stream) {
    launch_core_gradient<float16, Math::kTensorCore>(args, gradient, stream);
}

}  // namespace moek::cuda
