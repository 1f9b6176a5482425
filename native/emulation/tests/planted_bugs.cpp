// Runs one bug by name, for tests that look for a sanitizer's report in the output: a report ends the process or its test.
#include "emulation/tests/planted_bugs.hpp"

#include <cstdio>
#include <cstring>

#include "emulation/tests/cluster_ring.hpp"

namespace {

using namespace moek::emulation::test;

struct Case {
    const char* name;
    bool (*is_right)();
};

template <GemmBug kBug>
bool gemm_is_right() {
    return wrong_elements<kBug>(64, 64, 128) == 0;
}

constexpr Case kCases[] = {
    {"none",
     [] {
         return gemm_is_right<GemmBug::kNone>() && histogram_is_right<Bug::kNone>() &&
                neighbours_are_right<Bug::kNone>() && warp_total_is_right<Bug::kNone>() &&
                total_of_blocks_is_right<Bug::kNone>() && copy_is_right<Bug::kNone>() &&
                ring_is_right<RingBug::kNone>();
     }},
    {"read_beside_shared", histogram_is_right<Bug::kReadBesideShared>},
    {"read_beside_global", copy_is_right<Bug::kReadBesideGlobal>},
    {"no_barrier_after_load", gemm_is_right<GemmBug::kNoBarrierAfterLoad>},
    {"no_barrier_before_reuse", gemm_is_right<GemmBug::kNoBarrierBeforeReuse>},
    {"no_barrier_after_zeroing", histogram_is_right<Bug::kNoBarrierAfterZeroing>},
    {"no_sync_warp", neighbours_are_right<Bug::kNoSyncWarp>},
    {"no_atomic", histogram_is_right<Bug::kNoAtomic>},
    {"no_fence", total_of_blocks_is_right<Bug::kNoFence>},
    {"own_block_only", ring_is_right<RingBug::kOwnBlockOnly>},
    {"too_few_bytes", ring_is_right<RingBug::kTooFewBytes>},
    {"lane_leaves_early", warp_total_is_right<Bug::kLaneLeavesEarly>},
};

}  // namespace

int main(int count, char** arguments) {
    for (const Case& known : kCases) {
        if (count != 2 || std::strcmp(arguments[1], known.name) != 0) continue;
        const bool right = known.is_right();
        std::printf("%s: %s\n", known.name, right ? "the result is right" : "the result is wrong");
        if (cudaPeekAtLastError() != cudaSuccess) std::printf("%s\n", cudaGetErrorString(cudaPeekAtLastError()));
        return right ? 0 : 1;
    }
    std::fprintf(stderr, "usage: %s BUG, one of:\n", arguments[0]);
    for (const Case& known : kCases) std::fprintf(stderr, "  %s\n", known.name);
    return 2;
}
