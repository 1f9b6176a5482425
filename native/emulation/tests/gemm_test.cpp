// A product as the real kernels make them, under several schedules.
#include "emulation/tests/gemm_case.hpp"

namespace moek::emulation::test {
namespace {

TEST(EmulatedGemm, AgreesWithDoubleForEveryScheduleAndEdge) {
    for (unsigned seed : {0u, 1u, 2u, 3u}) {
        for (unsigned preempt : {0u, 20u}) {
            const Schedule schedule(seed, preempt);
            EXPECT_EQ(wrong_elements<GemmBug::kNone>(128, 64, 256), 0)
                << seed << " " << cudaGetErrorString(cudaPeekAtLastError());
            EXPECT_EQ(wrong_elements<GemmBug::kNone>(70, 9, 40), 0) << seed;
            EXPECT_EQ(wrong_elements<GemmBug::kNone>(1, 1, 8), 0) << seed;
        }
    }
}

TEST(EmulatedGemm, HasNoBankConflicts) {
    statistics() = {};
    ASSERT_EQ(wrong_elements<GemmBug::kNone>(64, 64, 32), 0);
    EXPECT_EQ(statistics().matrices, 4u * 2 * 4 * 4);
    EXPECT_EQ(statistics().bank_conflicts, 0u);
}

}  // namespace
}  // namespace moek::emulation::test
