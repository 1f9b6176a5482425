// How the CUDA backend goes through core_merge's cores: every step of every core has its place in exactly one stage.
#include <gtest/gtest.h>

#include "core/core_merge/cuda_plan.hpp"
#include "core/gemm/cuda_plan.hpp"

namespace moek {
namespace {

TEST(CoreMergeCudaPlan, StagesAndTilesCoverACore) {
    for (const int bytes : {2, 4}) {
        const int stage_depth = kStageRowBytes / bytes;
        for (const int64_t E : {1, 2, 3, 8, 4096}) {
            for (int64_t r = 1; r <= 300; ++r) {
                const CudaCorePlan plan = plan_cuda_cores(r, E, bytes);
                SCOPED_TRACE(to_string(plan) + " for r " + std::to_string(r) + " E " + std::to_string(E));
                EXPECT_GE(int64_t{plan.column_tiles} * plan.block_columns, r);
                EXPECT_LT(int64_t{plan.column_tiles - 1} * plan.block_columns, r);
                EXPECT_GE(plan.slot_depth * plan.stages_per_core, r);
                EXPECT_LE(plan.slot_depth * plan.cores_per_stage, stage_depth);
                // Slots are found by shifts and masks, and hold whole chunks of 16 bytes and steps of the tensor cores.
                EXPECT_EQ(plan.slot_depth & (plan.slot_depth - 1), 0);
                EXPECT_EQ(plan.slot_depth * bytes % 32, 0);
                EXPECT_GE(plan.cores_per_stage, 1);
                EXPECT_LE(plan.cores_per_stage, E);
                // Cores share a stage, or a core takes several, never both.
                EXPECT_TRUE(plan.cores_per_stage == 1 || plan.stages_per_core == 1);
                EXPECT_EQ(plan.fused(), r <= 64);
            }
        }
    }
}

TEST(CoreMergeCudaPlan, SmallCoresShareAStage) {
    EXPECT_EQ(plan_cuda_cores(16, 8, 2), (CudaCorePlan{32, 1, 16, 4, 1}));
    EXPECT_EQ(plan_cuda_cores(17, 8, 2), (CudaCorePlan{32, 1, 32, 2, 1}));
    EXPECT_EQ(plan_cuda_cores(64, 8, 2), (CudaCorePlan{64, 1, 64, 1, 1}));
    EXPECT_EQ(plan_cuda_cores(3, 8, 4), (CudaCorePlan{32, 1, 8, 4, 1}));
    EXPECT_EQ(plan_cuda_cores(64, 8, 4), (CudaCorePlan{64, 1, 32, 1, 2}));
    EXPECT_EQ(plan_cuda_cores(130, 2, 2), (CudaCorePlan{64, 3, 64, 1, 3}));
    EXPECT_EQ(plan_cuda_cores(8, 1, 2).cores_per_stage, 1);
}

TEST(CoreMergeCudaPlan, MoreTokensOfABlockWantFewerSplits) {
    EXPECT_EQ(cuda_core_merge_splits(1), kMostSplits);
    EXPECT_EQ(cuda_core_merge_splits(5), 16);
    EXPECT_EQ(cuda_core_merge_splits(100000), 8);
}

}  // namespace
}  // namespace moek
