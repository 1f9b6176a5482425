#include "cuda/core_merge/mix_kernel.cuh"
#include "cuda/core_merge/mix_launch.hpp"

namespace moek::cuda {

void launch_mix_bf16(const moek_core_merge_args& args, const Mix& mix, cudaStream_t stream) {
    with_weight_type<bfloat16>(mix.types.weight_dtype, [&](auto stored) {
        launch_mix<bfloat16, decltype(stored), Math::kTensorCore>(args, mix, stream);
    });
}

}  // namespace moek::cuda
