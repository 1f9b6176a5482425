#include "cuda/core_merge/mix_back_kernel.cuh"
#include "cuda/core_merge/mix_back_launch.hpp"

namespace moek::cuda {

void launch_mix_back_f16(const moek_core_merge_args& args, const MixBack& back, cudaStream_t stream) {
    with_weight_type<float16>(back.types.weight_dtype, [&](auto stored) {
        launch_mix_back<float16, decltype(stored), Math::kTensorCore>(args, back, stream);
    });
}

}  // namespace moek::cuda
