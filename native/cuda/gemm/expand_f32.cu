#include "cuda/gemm/expand_kernel.cuh"
#include "cuda/gemm/expand_launch.hpp"

namespace moek::cuda {

void launch_expand_f32(const Expand& expand, cudaStream_t stream) {
    with_float_math(expand.types.tf32,
                    [&](auto math) { launch_expand<float, float, decltype(math)::value>(expand, stream); });
}

}  // namespace moek::cuda
