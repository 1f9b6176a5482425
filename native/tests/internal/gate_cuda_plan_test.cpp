#include <gtest/gtest.h>

#include "core/gate/cuda_plan.hpp"

namespace moek {
namespace {

constexpr int kMultiprocessors = 132;

TEST(CudaGatePlan, ARowsFormCoversItAndIsNoWiderThanNeeded) {
    for (int64_t E = 1; E <= 4096; ++E) {
        const CudaGateRowForm form = cuda_gate_row_form(E);
        const int64_t elements = int64_t{form.threads} * form.per_thread;
        ASSERT_GE(elements, E) << E;
        ASSERT_TRUE(elements < 2 * E || elements == 4) << E;
        ASSERT_LE(form.per_thread, 16) << E;
        ASSERT_EQ(form.threads == kCudaGateBlockThreads, E > kCudaGateWarpElements) << E;
    }
    EXPECT_EQ(cuda_gate_row_form(8), (CudaGateRowForm{8, 1}));
    EXPECT_EQ(cuda_gate_row_form(64), (CudaGateRowForm{32, 2}));
    EXPECT_EQ(cuda_gate_row_form(513), (CudaGateRowForm{256, 4}));
}

TEST(CudaGatePlan, OneBlockCountsAFewRowsWithoutClearing) {
    const CudaGatePlan few = plan_cuda_gate_forward(64, 64, true, false, kMultiprocessors);
    EXPECT_EQ(few.blocks, 1);
    EXPECT_EQ(few.counts, CudaGateCounts::kStore);
    EXPECT_FALSE(few.clear_counts);
    const CudaGatePlan more = plan_cuda_gate_forward(65, 64, true, false, kMultiprocessors);
    EXPECT_EQ(more.blocks, 9);
    EXPECT_EQ(more.counts, CudaGateCounts::kAdd);
    EXPECT_TRUE(more.clear_counts);
    EXPECT_EQ(plan_cuda_gate_forward(256, 8, true, false, kMultiprocessors).counts, CudaGateCounts::kStore);
    EXPECT_EQ(plan_cuda_gate_forward(4, 600, true, false, kMultiprocessors).blocks, 1);
    EXPECT_EQ(plan_cuda_gate_forward(5, 600, true, false, kMultiprocessors).blocks, 5);
}

TEST(CudaGatePlan, CountsThatAccumulateOrAreNotWantedAreNeverCleared) {
    for (const int64_t T : {0, 1, 100, 100000}) {
        EXPECT_FALSE(plan_cuda_gate_forward(T, 64, true, true, kMultiprocessors).clear_counts);
        EXPECT_EQ(plan_cuda_gate_forward(T, 64, true, true, kMultiprocessors).counts, CudaGateCounts::kAdd);
        EXPECT_FALSE(plan_cuda_gate_forward(T, 64, false, false, kMultiprocessors).clear_counts);
        EXPECT_EQ(plan_cuda_gate_forward(T, 64, false, false, kMultiprocessors).counts, CudaGateCounts::kNone);
    }
}

TEST(CudaGatePlan, WithoutTokensNothingIsLaunchedAndCountsAreCleared) {
    const CudaGatePlan plan = plan_cuda_gate_forward(0, 64, true, false, kMultiprocessors);
    EXPECT_EQ(plan.blocks, 0);
    EXPECT_TRUE(plan.clear_counts);
}

TEST(CudaGatePlan, TheGridIsWhatFitsAtOnce) {
    EXPECT_EQ(plan_cuda_gate_backward(1024, 64, kMultiprocessors).blocks, 128);
    EXPECT_EQ(plan_cuda_gate_backward(int64_t{1} << 40, 64, kMultiprocessors).blocks, 8 * kMultiprocessors);
    EXPECT_EQ(plan_cuda_gate_backward(1000, 8, kMultiprocessors).blocks, 32);
}

// A token's result must not change with its neighbours.
TEST(CudaGatePlan, ARowsFormDependsOnEAlone) {
    for (const int64_t E : {3, 64, 700}) {
        for (const int64_t T : {1, 1000, 1000000}) {
            EXPECT_EQ(plan_cuda_gate_forward(T, E, true, false, 1).form, cuda_gate_row_form(E));
            EXPECT_EQ(plan_cuda_gate_backward(T, E, kMultiprocessors).form, cuda_gate_row_form(E));
        }
    }
}

TEST(CudaGatePlan, IsPrintable) {
    EXPECT_EQ(to_string(plan_cuda_gate_forward(1024, 64, true, false, kMultiprocessors)),
              "row 32 threads x 2, grid 128 x 256, counts clear+add");
    EXPECT_EQ(to_string(plan_cuda_gate_backward(1, 8, kMultiprocessors)),
              "row 8 threads x 1, grid 1 x 256, counts none");
}

}  // namespace
}  // namespace moek
