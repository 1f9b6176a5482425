#include "cuda/gemm/expand_kernel.cuh"
#include "cuda/gemm/expand_launch.hpp"

namespace moek::cuda {

void launch_expand_f16(const Expand& expand, cudaStream_t stream) {
    with_weight_type<float16>(expand.types.weight_dtype, [&](auto stored) {
        launch_expand<float16, decltype(stored), Math::kTensorCore>(expand, stream);
    });
}

}  // namespace moek::cuda
