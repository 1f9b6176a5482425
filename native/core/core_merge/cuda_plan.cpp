#include "core/core_merge/cuda_plan.hpp"

#include <algorithm>

#include "core/gemm/cuda_plan.hpp"

namespace moek {
namespace {

int64_t divide_up(int64_t value, int64_t by) {
    return value / by + (value % by != 0 ? 1 : 0);
}

constexpr int kNarrowBlock = 32;
// Two sets of sums share the registers: those of one core and those of all.
constexpr int kWideBlock = 64;

}  // namespace

CudaCorePlan plan_cuda_cores(int64_t r, int64_t E, int operand_bytes) {
    const int stage_depth = kStageRowBytes / operand_bytes;
    CudaCorePlan plan = {};
    plan.block_columns = r <= kNarrowBlock ? kNarrowBlock : kWideBlock;
    plan.column_tiles = static_cast<int>(divide_up(r, plan.block_columns));
    plan.stages_per_core = divide_up(r, stage_depth);
    // The smallest slot is a step of the tensor cores.
    plan.slot_depth = 32 / operand_bytes;
    while (plan.slot_depth < stage_depth && plan.slot_depth < r) plan.slot_depth *= 2;
    plan.cores_per_stage = static_cast<int>(std::min<int64_t>(stage_depth / plan.slot_depth, E));
    return plan;
}

int64_t cuda_core_merge_splits(int64_t T) {
    return T <= 4 ? kMostSplits : T <= 16 ? 16 : 8;
}

std::string to_string(const CudaCorePlan& plan) {
    return std::to_string(plan.column_tiles) + " x " + std::to_string(plan.block_columns) + " ranks, " +
           std::to_string(plan.cores_per_stage) + " cores of " + std::to_string(plan.slot_depth) +
           " steps in a stage, " + std::to_string(plan.stages_per_core) + " stages each";
}

}  // namespace moek
