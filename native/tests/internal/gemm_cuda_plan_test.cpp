// How the CUDA backend cuts its products: everything is covered, nothing is cut smaller than it helps.
#include <gtest/gtest.h>

#include "core/gemm/cuda_plan.hpp"
#include "core/rank_lora/cuda_plan.hpp"

namespace moek {
namespace {

constexpr int kSms = 132;

TEST(GemmCudaPlan, BlocksCoverTheColumnsWithTheFewestTiles) {
    const int expected[][2] = {{1, 32},    {32, 32},   {33, 64},   {64, 64},   {65, 128},  {96, 128},
                               {128, 128}, {129, 128}, {160, 128}, {256, 128}, {4096, 128}};
    for (const auto& [columns, width] : expected) EXPECT_EQ(plan_block_columns(columns), width) << columns;
}

TEST(GemmCudaPlan, SplitsCoverTheDepthOnce) {
    for (int64_t T : {1, 64, 65, 1000, 8192, 20000}) {
        for (int64_t depth : {1, 63, 64, 65, 1000, 4096, 4097}) {
            for (int bytes : {2, 4}) {
                const int64_t stage = kStageRowBytes / bytes;
                const ProductPlan plans[] = {plan_shrink(T, 128, 1, depth, bytes, kSms, kMostSplits),
                                             plan_invariant_shrink(T, 128, 1, depth, bytes),
                                             plan_weight_gradient(depth, T, 64, bytes, kSms)};
                for (const ProductPlan& plan : plans) {
                    SCOPED_TRACE(describe(plan) + " for T " + std::to_string(T) + " depth " + std::to_string(depth));
                    EXPECT_EQ(plan.split_depth % stage, 0);
                    EXPECT_GE(plan.splits * plan.split_depth, depth);
                    EXPECT_LT((plan.splits - 1) * plan.split_depth, depth);
                    EXPECT_LE(plan.splits, kMostSplits);
                    EXPECT_GE(plan.row_tiles * kBlockRows, T);
                }
            }
        }
    }
}

TEST(GemmCudaPlan, OnlyFewRowsSplitTheDepth) {
    EXPECT_EQ(plan_shrink(16384, 128, 1, 4096, 2, kSms, kMostSplits).splits, 1);
    EXPECT_EQ(plan_shrink(8192, 128, 1, 4096, 2, kSms, kMostSplits).splits, 2);
    EXPECT_EQ(plan_shrink(1, 128, 1, 4096, 2, kSms, kMostSplits).splits, 32);
    EXPECT_EQ(plan_shrink(1, 128, 1, 4096, 2, kSms, 8).splits, 8);
    EXPECT_EQ(plan_shrink(1, 128, 1, 64, 2, kSms, kMostSplits).splits, 1);
}

TEST(GemmCudaPlan, AnInvariantCutDependsOnTheDepthAlone) {
    const ProductPlan one = plan_invariant_shrink(1, 128, 1, 4096, 2);
    const ProductPlan many = plan_invariant_shrink(100000, 128, 1, 4096, 2);
    EXPECT_EQ(one.split_depth, many.split_depth);
    EXPECT_EQ(one.splits, 4);
}

TEST(GemmCudaPlan, NoTokensAreOneEmptySplit) {
    const ProductPlan plan = plan_weight_gradient(0, 4096, 64, 2, kSms);
    EXPECT_EQ(plan.splits, 1);
    EXPECT_EQ(plan.row_tiles, 32);
}

TEST(GemmCudaPlan, DescribesItself) {
    EXPECT_EQ(describe(plan_shrink(8192, 128, 1, 4096, 2, kSms, kMostSplits)),
              "64x1 tiles of 128x128, 2 splits of 2048");
}

moek_rank_lora_args smora(int64_t T, int64_t r) {
    moek_rank_lora_args args = {};
    args.T = T;
    args.d_in = args.d_out = 4096;
    args.r = r;
    args.k = 8;
    args.rank_partition = 1;
    args.x_dtype = MOEK_DTYPE_BF16;
    return args;
}

TEST(RankLoraCudaPlan, TheGateGoesWhereItCostsLeast) {
    constexpr int64_t kShared = 227 * 1024;
    EXPECT_EQ(plan_cuda_rank_lora_forward(smora(1, 64), kSms, kShared).gate, CudaGatePlace::kInExpand);
    EXPECT_EQ(plan_cuda_rank_lora_forward(smora(64, 64), kSms, kShared).gate, CudaGatePlace::kInExpand);
    EXPECT_EQ(plan_cuda_rank_lora_forward(smora(65, 64), kSms, kShared).gate, CudaGatePlace::kOwnKernel);
    EXPECT_EQ(plan_cuda_rank_lora_forward(smora(8192, 64), kSms, kShared).gate, CudaGatePlace::kOwnKernel);
    EXPECT_EQ(plan_cuda_rank_lora_forward(smora(16384, 64), kSms, kShared).gate, CudaGatePlace::kInShrink);
    EXPECT_EQ(plan_cuda_rank_lora_forward(smora(16384, 64), kSms, kShared).block_columns, 128);
    // a and z do not fit into one block's tile.
    EXPECT_EQ(plan_cuda_rank_lora_forward(smora(16384, 128), kSms, kShared).gate, CudaGatePlace::kOwnKernel);
    EXPECT_EQ(plan_cuda_rank_lora_forward(smora(1, 129), kSms, kShared).gate, CudaGatePlace::kOwnKernel);
}

TEST(RankLoraCudaPlan, AnInvariantCallLooksAtNoToken) {
    for (int64_t T : {1, 64, 8192, 100000}) {
        moek_rank_lora_args args = smora(T, 64);
        args.flags = MOEK_CALL_FLAG_BATCH_INVARIANT;
        EXPECT_EQ(plan_cuda_rank_lora_forward(args, kSms, 227 * 1024),
                  plan_cuda_rank_lora_forward(smora(65, 64), kSms, 227 * 1024));
    }
}

TEST(RankLoraCudaPlan, SmallSharedMemoryRulesTheFusedKernelOut) {
    moek_rank_lora_args args = smora(1, 128);
    EXPECT_EQ(plan_cuda_rank_lora_forward(args, kSms, 99 * 1024).gate, CudaGatePlace::kInExpand);
    args.x_dtype = MOEK_DTYPE_F32;
    EXPECT_EQ(plan_cuda_rank_lora_forward(args, kSms, 99 * 1024).gate, CudaGatePlace::kOwnKernel);
}

TEST(RankLoraCudaPlan, DescribesItself) {
    EXPECT_EQ(to_string(plan_cuda_rank_lora_forward(smora(8, 64), kSms, 227 * 1024)),
              "gate in expand, shrink by 32 columns in up to 16 splits");
}

}  // namespace
}  // namespace moek
