#include "cuda/core_merge/mix_back_kernel.cuh"
#include "cuda/core_merge/mix_back_launch.hpp"

namespace moek::cuda {

void launch_mix_back_f32(const moek_core_merge_args& args, const MixBack& back, cudaStream_t stream) {
    with_float_math(back.types.tf32,
                    [&](auto math) { launch_mix_back<float, float, decltype(math)::value>(args, back, stream); });
}

}  // namespace moek::cuda
