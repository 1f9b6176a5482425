#include "cuda/gemm/shrink_kernel.cuh"
#include "cuda/gemm/shrink_launch.hpp"

namespace moek::cuda {

void launch_shrink_f16(const Shrink& shrink, cudaStream_t stream) {
    with_weight_type<float16>(shrink.types.weight_dtype, [&](auto stored) {
        launch_shrink<float16, decltype(stored), Math::kTensorCore>(shrink, stream);
    });
}

}  // namespace moek::cuda
