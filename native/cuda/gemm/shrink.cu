#include "cuda/gemm/cluster_shrink.hpp"
#include "cuda/gemm/shrink.hpp"
#include "cuda/gemm/shrink_launch.hpp"

namespace moek::cuda {
namespace {

int32_t columns_of(const WeightOperand& weights) {
    return weights.order == WeightOrder::kDepthInLine ? weights.lines[0] + weights.lines[1] : weights.elements;
}

}  // namespace

void plan_shrink(const Device& device, const ShrinkCut& cut, Shrink& shrink) {
    int64_t widest = 0;
    for (int i = 0; i < shrink.parts; ++i) {
        widest = std::max<int64_t>(widest, columns_of(shrink.part[i].weights));
    }
    const int block_columns = cut.block_columns != 0 ? cut.block_columns : plan_block_columns(widest);
    int tiles = 0;
    for (int i = 0; i < shrink.parts; ++i) {
        tiles += (columns_of(shrink.part[i].weights) + block_columns - 1) / block_columns;
    }
    const int operand_bytes = shrink.types.token_dtype == MOEK_DTYPE_F32 ? 4 : 2;
    shrink.plan = cut.batch_invariant
                      ? plan_invariant_shrink(shrink.T, block_columns, tiles, shrink.depth, operand_bytes)
                      : moek::plan_shrink(shrink.T, block_columns, tiles, shrink.depth, operand_bytes, device.sm_count,
                                          cut.most_splits);
    shrink.plan.cluster = plan_cluster(shrink.plan, operand_bytes, device.most_cluster_blocks, device.sm_count);
    shrink.tensor_map_encoder = device.tensor_map_encoder;
}

void run_shrink(const Shrink& shrink, cudaStream_t stream) {
    if (shrink.plan.cluster > 1 && run_cluster_shrink(shrink, stream)) return;
    switch (shrink.types.token_dtype) {
        case MOEK_DTYPE_BF16:
            return launch_shrink_bf16(shrink, stream);
        case MOEK_DTYPE_F16:
            return launch_shrink_f16(shrink, stream);
        default:
            return launch_shrink_f32(shrink, stream);
    }
}

}  // namespace moek::cuda
