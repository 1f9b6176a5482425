// Bugs of a cluster's pipeline that change results or end in an error: the schedule that must find each. What ThreadSanitizer
// finds is in planted_bugs.cpp.
#include "emulation/tests/cluster_ring.hpp"

namespace moek::emulation::test {
namespace {

constexpr int kSeeds = 10;

int failing_seeds(bool (*is_right)()) {
    int failing = 0;
    for (unsigned seed = 1; seed <= kSeeds; ++seed) {
        const Schedule schedule(seed, seed % 2 * 20);
        failing += is_right() ? 0 : 1;
    }
    return failing;
}

bool last_error_has(const char* text) {
    return std::string(cudaGetErrorString(cudaErrorLaunchFailure)).find(text) != std::string::npos;
}

TEST(ClusterRing, IsRightUnderEverySchedule) {
    EXPECT_TRUE(ring_is_right<RingBug::kNone>()) << cudaGetErrorString(cudaPeekAtLastError());
    EXPECT_EQ(failing_seeds(ring_is_right<RingBug::kNone>), 0) << cudaGetErrorString(cudaPeekAtLastError());
}

TEST(ClusterRing, TooManyBytesAreWaitedForForever) {
    EXPECT_FALSE(ring_is_right<RingBug::kTooManyBytes>());
    EXPECT_TRUE(last_error_has("deadlock: ") && last_error_has(" waits in mbarrier.try_wait"))
        << cudaGetErrorString(cudaErrorLaunchFailure);
    EXPECT_TRUE(last_error_has("for 0 arrivals and 128 bytes")) << cudaGetErrorString(cudaErrorLaunchFailure);
    EXPECT_EQ(failing_seeds(ring_is_right<RingBug::kTooManyBytes>), kSeeds);
}

TEST(ClusterRing, ABlockThatEndsTooEarly) {
    const bool in_order = ring_is_right<RingBug::kNoSyncAtTheEnd>();
    EXPECT_TRUE(!in_order || failing_seeds(ring_is_right<RingBug::kNoSyncAtTheEnd>) > 0);
    EXPECT_NE(std::string(cudaGetErrorString(cudaErrorIllegalAddress)).find("of the cluster has finished"),
              std::string::npos)
        << cudaGetErrorString(cudaErrorIllegalAddress);
}

TEST(ClusterRing, BarriersThatTheOtherBlockDoesNotHaveYet) {
    const bool in_order = ring_is_right<RingBug::kNoSyncAtTheStart>();
    EXPECT_TRUE(!in_order || failing_seeds(ring_is_right<RingBug::kNoSyncAtTheStart>) > 0);
    EXPECT_TRUE(last_error_has("no mbarrier was initialised at the address"))
        << cudaGetErrorString(cudaErrorLaunchFailure);
}

TEST(ClusterRing, AReaderThatForgetsTheSwizzle) {
    EXPECT_FALSE(ring_is_right<RingBug::kNoSwizzle>());
    EXPECT_EQ(failing_seeds(ring_is_right<RingBug::kNoSwizzle>), kSeeds);
}

#if !defined(__SANITIZE_THREAD__)  // it would report these, and fail the test

TEST(ClusterRing, TooFewBytesLetReadersInTooEarly) {
    EXPECT_FALSE(ring_is_right<RingBug::kTooFewBytes>());
    EXPECT_EQ(failing_seeds(ring_is_right<RingBug::kTooFewBytes>), kSeeds);
}

TEST(ClusterRing, NoWaitForAFullStage) {
    EXPECT_FALSE(ring_is_right<RingBug::kNoWaitForFull>());
    EXPECT_EQ(failing_seeds(ring_is_right<RingBug::kNoWaitForFull>), kSeeds);
}

TEST(ClusterRing, NoWaitForAnEmptyStage) {
    EXPECT_FALSE(ring_is_right<RingBug::kNoWaitForEmpty>());
    EXPECT_GE(failing_seeds(ring_is_right<RingBug::kNoWaitForEmpty>), 8);
}

TEST(ClusterRing, AStageThatOnlyTheOwnBlockGivesBack) {
    EXPECT_GE(failing_seeds(ring_is_right<RingBug::kOwnBlockOnly>), 3);
}

#endif

}  // namespace
}  // namespace moek::emulation::test
