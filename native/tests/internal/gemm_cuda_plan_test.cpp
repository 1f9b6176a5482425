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

TEST(GemmCudaPlan, ClustersShareWhereItPays) {
    const auto cluster = [](int64_t T, int block_columns, int splits, int bytes = 2, int most = 4) {
        ProductPlan plan = {};
        plan.block_columns = block_columns;
        plan.row_tiles = (T + kBlockRows - 1) / kBlockRows;
        plan.column_tiles = 1;
        plan.splits = splits;
        return plan_cluster(plan, bytes, most, kSms);
    };
    EXPECT_EQ(cluster(8192, 128, 2), 4);
    EXPECT_EQ(cluster(8192, 128, 2, 2, 2), 2);
    EXPECT_EQ(cluster(8192, 128, 2, 2, 1), 1);
    EXPECT_EQ(cluster(8192, 64, 2), 4);
    // Little to share, or nothing, or not what bounds the product.
    EXPECT_EQ(cluster(8192, 32, 2), 1);
    EXPECT_EQ(cluster(128, 128, 32), 1);
    EXPECT_EQ(cluster(8192, 128, 2, 4), 1);
    EXPECT_EQ(cluster(0, 128, 1), 1);
    // No larger than there are tiles.
    EXPECT_EQ(cluster(300, 128, 2), 2);
    EXPECT_EQ(cluster(500, 128, 2), 4);
    // Blocks without tokens: on multiprocessors that are idle, or one in nine.
    EXPECT_EQ(cluster(5 * 128, 128, 16), 4);
    EXPECT_EQ(cluster(5 * 128, 128, 20), 2);
    EXPECT_EQ(cluster(5 * 128, 128, 26), 1);
    EXPECT_EQ(cluster(8 * 128, 128, 26), 4);
    EXPECT_EQ(cluster(7 * 128, 128, 26), 1);
    EXPECT_EQ(cluster(9 * 128, 128, 26), 2);
    EXPECT_EQ(cluster(24 * 128 + 1, 128, 26), 4);
}

TEST(GemmCudaPlan, DescribesItself) {
    ProductPlan shared = plan_shrink(8192, 128, 1, 4096, 2, kSms, kMostSplits);
    shared.cluster = plan_cluster(shared, 2, 2, kSms);
    EXPECT_EQ(describe(shared), "64x1 tiles of 128x128, 2 splits of 2048, clusters of 2");
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
