#include <gtest/gtest.h>

#include "core/dropout/cuda_plan.hpp"

namespace moek {
namespace {

TEST(CudaDropoutPlan, CoversEveryPhiloxBlockOfARow) {
    // One that the row starts in the middle of, and one that it ends in.
    EXPECT_EQ(plan_cuda_dropout(1, 1, 132).columns, 2);
    EXPECT_EQ(plan_cuda_dropout(1, 4, 132).columns, 1);
    EXPECT_EQ(plan_cuda_dropout(1, 13, 132).columns, 8);
    EXPECT_EQ(plan_cuda_dropout(1, 16, 132).columns, 4);
    EXPECT_EQ(plan_cuda_dropout(1, 4096, 132), (CudaDropoutPlan{256, 1, 4, 1}));
}

TEST(CudaDropoutPlan, SharesABlockAmongShortRows) {
    EXPECT_EQ(plan_cuda_dropout(1000, 16, 132), (CudaDropoutPlan{4, 64, 1, 16}));
}

TEST(CudaDropoutPlan, TheGridIsWhatFitsAtOnce) {
    const CudaDropoutPlan tall = plan_cuda_dropout(int64_t{1} << 40, 1, 132);
    EXPECT_EQ(tall.grid_rows * tall.grid_columns, 8 * 132);
    const CudaDropoutPlan wide = plan_cuda_dropout(3, int64_t{1} << 60, 132);
    EXPECT_EQ(wide.grid_rows * wide.grid_columns, 8 * 132);
    EXPECT_EQ(plan_cuda_dropout(0, 8, 132).grid_rows, 0);
}

TEST(CudaDropoutPlan, IsPrintable) {
    EXPECT_EQ(to_string(plan_cuda_dropout(1000, 16, 132)), "block 4 x 64, grid 1 x 16");
}

}  // namespace
}  // namespace moek
