// Bugs that change results or end in an error: the schedule that must find each, and the one that cannot. What the sanitizers
// find is in planted_bugs.cpp.
#include "emulation/tests/planted_bugs.hpp"

namespace moek::emulation::test {
namespace {

constexpr unsigned kSeeds = 10;

// How many of the seeds 1..10 give a wrong result.
int failing_seeds(bool (*is_right)()) {
    int failing = 0;
    for (unsigned seed = 1; seed <= kSeeds; ++seed) {
        const Schedule schedule(seed, seed % 2 * 20);
        failing += is_right() ? 0 : 1;
    }
    return failing;
}

template <GemmBug kBug>
bool gemm_is_right() {
    return wrong_elements<kBug>(128, 64, 256) == 0;
}

TEST(PlantedBugs, CorrectKernelsPassUnderEverySchedule) {
    for (bool (*is_right)() :
         {gemm_is_right<GemmBug::kNone>, histogram_is_right<Bug::kNone>, neighbours_are_right<Bug::kNone>,
          warp_total_is_right<Bug::kNone>, total_of_blocks_is_right<Bug::kNone>, copy_is_right<Bug::kNone>}) {
        EXPECT_TRUE(is_right());
        EXPECT_EQ(failing_seeds(is_right), 0);
    }
}

TEST(PlantedBugs, ALaneThatLeavesEarly) {
    EXPECT_FALSE(warp_total_is_right<Bug::kLaneLeavesEarly>());
    EXPECT_NE(std::string(cudaGetErrorString(cudaErrorLaunchFailure)).find("thread (7,0,0) has finished"),
              std::string::npos)
        << cudaGetErrorString(cudaErrorLaunchFailure);
    EXPECT_EQ(failing_seeds(warp_total_is_right<Bug::kLaneLeavesEarly>), static_cast<int>(kSeeds));
}

TEST(PlantedBugs, CopiesThatNobodyWaitsFor) {
    EXPECT_FALSE(gemm_is_right<GemmBug::kNoWait>());
    EXPECT_EQ(failing_seeds(gemm_is_right<GemmBug::kNoWait>), static_cast<int>(kSeeds));
}

#if !defined(__SANITIZE_THREAD__)  // it would report these, and fail the test

TEST(PlantedBugs, SharedMemoryThatNobodyWrote) {
    EXPECT_FALSE(histogram_is_right<Bug::kUseBeforeWrite>());
}

TEST(PlantedBugs, NoBarrierAfterALoad) {
    EXPECT_FALSE(gemm_is_right<GemmBug::kNoBarrierAfterLoad>());
    EXPECT_EQ(failing_seeds(gemm_is_right<GemmBug::kNoBarrierAfterLoad>), static_cast<int>(kSeeds));
}

TEST(PlantedBugs, NoBarrierBeforeReuseNeedsARandomSchedule) {
    EXPECT_TRUE(gemm_is_right<GemmBug::kNoBarrierBeforeReuse>());
    EXPECT_GE(failing_seeds(gemm_is_right<GemmBug::kNoBarrierBeforeReuse>), 5);
}

TEST(PlantedBugs, NoBarrierAfterZeroing) {
    EXPECT_FALSE(histogram_is_right<Bug::kNoBarrierAfterZeroing>());
    EXPECT_GE(failing_seeds(histogram_is_right<Bug::kNoBarrierAfterZeroing>), 5);
}

TEST(PlantedBugs, NoSyncWarp) {
    EXPECT_FALSE(neighbours_are_right<Bug::kNoSyncWarp>());
    EXPECT_EQ(failing_seeds(neighbours_are_right<Bug::kNoSyncWarp>), static_cast<int>(kSeeds));
}

#endif

}  // namespace
}  // namespace moek::emulation::test
