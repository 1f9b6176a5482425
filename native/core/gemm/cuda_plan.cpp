#include "core/gemm/cuda_plan.hpp"

#include <algorithm>

namespace moek {
namespace {

int64_t divide_up(int64_t value, int64_t by) {
    return value / by + (value % by != 0 ? 1 : 0);
}

constexpr int64_t kLeastStages = 2;  // of a split

void cut_depth(ProductPlan& plan, int64_t depth, int64_t stage_depth, int64_t splits) {
    const int64_t stages = std::max<int64_t>(1, divide_up(depth, stage_depth));
    splits = std::clamp<int64_t>(std::min(splits, stages / kLeastStages), 1, kMostSplits);
    plan.split_depth = divide_up(stages, splits) * stage_depth;
    plan.splits = static_cast<int>(std::max<int64_t>(1, divide_up(depth, plan.split_depth)));
}

ProductPlan rows_of_shrink(int64_t T, int block_columns, int column_tiles) {
    ProductPlan plan = {};
    plan.block_columns = block_columns;
    plan.row_tiles = divide_up(T, kBlockRows);
    plan.column_tiles = column_tiles;
    return plan;
}

}  // namespace

int plan_block_columns(int64_t columns) {
    const int64_t tiles = divide_up(columns, kWidestBlock);
    int width = 32;
    while (width < kWidestBlock && tiles * width < columns) width *= 2;
    return width;
}

ProductPlan plan_shrink(int64_t T, int block_columns, int column_tiles, int64_t depth, int operand_bytes, int sm_count,
                        int64_t most_splits) {
    ProductPlan plan = rows_of_shrink(T, block_columns, column_tiles);
    const int64_t blocks = std::max<int64_t>(1, plan.row_tiles * column_tiles);
    cut_depth(plan, depth, kStageRowBytes / operand_bytes, std::min(most_splits, sm_count / blocks));
    return plan;
}

ProductPlan plan_invariant_shrink(int64_t T, int block_columns, int column_tiles, int64_t depth, int operand_bytes) {
    constexpr int64_t kSplitDepth = 1024;
    ProductPlan plan = rows_of_shrink(T, block_columns, column_tiles);
    cut_depth(plan, depth, kStageRowBytes / operand_bytes, divide_up(depth, kSplitDepth));
    return plan;
}

ProductPlan plan_weight_gradient(int64_t T, int64_t width, int64_t columns, int operand_bytes, int sm_count) {
    ProductPlan plan = {};
    plan.block_columns = plan_block_columns(columns);
    plan.row_tiles = divide_up(width, kBlockRows);
    plan.column_tiles = static_cast<int>(divide_up(columns, plan.block_columns));
    const int64_t stage_depth = kStageRowBytes / operand_bytes;
    const int64_t blocks = std::max<int64_t>(1, plan.row_tiles * plan.column_tiles);
    // Two blocks fit a multiprocessor; the operands stream, so that both are wanted.
    cut_depth(plan, T, stage_depth, 2 * static_cast<int64_t>(sm_count) / blocks);
    return plan;
}

int plan_cluster(const ProductPlan& plan, int operand_bytes, int most_blocks, int sm_count) {
    // Narrow weights are a fifth of what a block reads, or less. Products of floats wait for arithmetic.
    if (plan.block_columns < 64 || operand_bytes != 2) return 1;
    for (int cluster = most_blocks; cluster > 1; cluster /= 2) {
        if (plan.row_tiles < cluster) continue;
        // A block without tokens takes a multiprocessor: one that is idle anyway, or of every eight blocks one.
        const int64_t padded = divide_up(plan.row_tiles, cluster) * cluster;
        const bool all_run_at_once = padded * plan.column_tiles * plan.splits <= sm_count;
        if (all_run_at_once || 8 * (padded - plan.row_tiles) <= plan.row_tiles) return cluster;
    }
    return 1;
}

std::string describe(const ProductPlan& plan) {
    return std::to_string(plan.row_tiles) + "x" + std::to_string(plan.column_tiles) + " tiles of " +
           std::to_string(kBlockRows) + "x" + std::to_string(plan.block_columns) + ", " + std::to_string(plan.splits) +
           " splits of " + std::to_string(plan.split_depth) +
           (plan.cluster > 1 ? ", clusters of " + std::to_string(plan.cluster) : "");
}

}  // namespace moek
