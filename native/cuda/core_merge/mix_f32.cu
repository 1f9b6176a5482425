#include "cuda/core_merge/mix_kernel.cuh"
#include "cuda/core_merge/mix_launch.hpp"

namespace moek::cuda {

void launch_mix_f32(const moek_core_merge_args& args, const Mix& mix, cudaStream_t stream) {
    with_float_math(mix.types.tf32,
                    [&](auto math) { launch_mix<float, float, decltype(math)::value>(args, mix, stream); });
}

}  // namespace moek::cuda
