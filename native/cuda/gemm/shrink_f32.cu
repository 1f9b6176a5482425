#include "cuda/gemm/shrink_kernel.cuh"
#include "cuda/gemm/shrink_launch.hpp"

namespace moek::cuda {

void launch_shrink_f32(const Shrink& shrink, cudaStream_t stream) {
    with_float_math(shrink.types.tf32,
                    [&](auto math) { launch_shrink<float, float, decltype(math)::value>(shrink, stream); });
}

}  // namespace moek::cuda
