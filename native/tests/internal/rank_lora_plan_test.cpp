#include <gtest/gtest.h>

#include "core/rank_lora/plan.hpp"

namespace moek {
namespace {

moek_rank_lora_args make_args(int64_t r, int64_t k, int32_t gate) {
    moek_rank_lora_args args = {};
    args.T = 10;
    args.d_in = args.d_out = 100;
    args.r = r;
    args.k = k;
    args.rank_partition = 1;
    args.gate = gate;
    args.score = MOEK_GATE_SCORE_SIGMOID;
    return args;
}

TEST(RankLoraPlan, FewSelectedRanksAreGathered) {
    const RankLoraPlan few = plan_rank_lora(make_args(64, 8, MOEK_RANK_GATE_ROUTER));
    EXPECT_TRUE(few.sparse_down && few.sparse_up && few.sparse_du && few.sparse_dz);
    const RankLoraPlan half = plan_rank_lora(make_args(64, 32, MOEK_RANK_GATE_ROUTER));
    EXPECT_TRUE(half.sparse_down && half.sparse_up && half.sparse_du && half.sparse_dz);
    const RankLoraPlan most = plan_rank_lora(make_args(64, 33, MOEK_RANK_GATE_ROUTER));
    EXPECT_FALSE(most.sparse_down || most.sparse_up || most.sparse_du || most.sparse_dz);
    EXPECT_FALSE(plan_rank_lora(make_args(1, 1, MOEK_RANK_GATE_CALLER)).sparse_up);
}

TEST(RankLoraPlan, AGateOnActivationsNeedsThemAll) {
    for (const int32_t gate : {MOEK_RANK_GATE_ACTIVATION_SIGNED, MOEK_RANK_GATE_ACTIVATION_ABSOLUTE}) {
        const RankLoraPlan plan = plan_rank_lora(make_args(64, 8, gate));
        EXPECT_FALSE(plan.sparse_down);
        EXPECT_TRUE(plan.sparse_up && plan.sparse_du);
    }
    const RankLoraPlan mora = plan_rank_lora(make_args(64, 8, MOEK_RANK_GATE_ACTIVATION_SOFTMAX));
    EXPECT_FALSE(mora.sparse_down || mora.sparse_du);
    EXPECT_TRUE(mora.sparse_up);
}

TEST(RankLoraPlan, ASoftmaxOverAllRanksHasADenseGradient) {
    moek_rank_lora_args args = make_args(64, 8, MOEK_RANK_GATE_ROUTER);
    args.score = MOEK_GATE_SCORE_SOFTMAX;
    EXPECT_FALSE(plan_rank_lora(args).sparse_dz);
    args.normalize = MOEK_GATE_NORMALIZE_SUM_TO_ONE;
    EXPECT_TRUE(plan_rank_lora(args).sparse_dz);
    args.eps = 1e-6;
    EXPECT_FALSE(plan_rank_lora(args).sparse_dz);
    args.eps = 0;
    args.bias_mode = MOEK_BIAS_MODE_WEIGHT;
    EXPECT_FALSE(plan_rank_lora(args).sparse_dz);
    EXPECT_TRUE(plan_rank_lora(args).sparse_du);
}

TEST(RankLoraPlan, DoesNotDependOnTheNumberOfTokens) {
    moek_rank_lora_args args = make_args(64, 8, MOEK_RANK_GATE_ROUTER);
    for (const int64_t T : {int64_t{1}, int64_t{100000}}) {
        args.T = T;
        EXPECT_TRUE(plan_rank_lora(args).sparse_down);
    }
}

}  // namespace
}  // namespace moek
