// mbarriers: phases, announced bytes, arrivals from other blocks, and what they refuse.
#include "cuda/common/mbarrier.hpp"

#include "cuda/common/cluster.hpp"
#include "emulation/tests/cluster_barriers.hpp"
#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

// Threads of warp 1 hand rounds of numbers to those of warp 0 through a ring of two places.
__global__ void hand_over(int rounds, int* out) {
    MOEK_SHARED(uint64_t, full, 2);
    MOEK_SHARED(uint64_t, empty, 2);
    MOEK_SHARED(int, ring, 2 * 32);
    begin_cluster(full, 2, 32);
    begin_cluster(empty, 2, 32);
    const unsigned lane = threadIdx.x % 32;
    int64_t sum = 0;
    for (int i = 0; i < rounds; ++i) {
        const unsigned parity = static_cast<unsigned>(i / 2 % 2);
        int* const place = ring + i % 2 * 32;
        if (threadIdx.x >= 32) {
            cuda::mbarrier_wait(empty + i % 2, parity ^ 1);
            place[lane] = i * 32 + static_cast<int>(lane);
            cuda::mbarrier_arrive_at(full + i % 2, 0);
        } else {
            cuda::mbarrier_wait(full + i % 2, parity);
            sum += place[31 - lane];
            cuda::mbarrier_arrive_at(empty + i % 2, 0);
        }
    }
    if (threadIdx.x < 32) out[lane] = static_cast<int>(sum);
}

TEST(Mbarrier, OrdersTheMemoryOfThoseWhoArriveAndThoseWhoWait) {
    for (unsigned seed = 0; seed < 6; ++seed) {
        const Schedule schedule(seed, seed % 2 * 20);
        std::vector<int> out(32);
        run(hand_over, 1, 64, 9, out.data());
        for (int lane = 0; lane < 32; ++lane) {
            EXPECT_EQ(out[static_cast<size_t>(lane)], 32 * 36 + 9 * (31 - lane)) << seed;
        }
    }
}

// Each block waits until every block of the cluster has arrived at its barrier, three times.
__global__ void arrive_everywhere(unsigned* arrivals, unsigned* seen) {
    MOEK_SHARED(uint64_t, barrier, 1);
    begin_cluster(barrier, 1, cuda::cluster_size());
    for (unsigned round = 0; round < 3; ++round) {
        if (threadIdx.x == 0) atomicAdd(arrivals + round, 1u);
        __syncwarp();
        if (threadIdx.x < cuda::cluster_size()) cuda::mbarrier_arrive_at(barrier, threadIdx.x);
        cuda::mbarrier_wait(barrier, round % 2);
        if (threadIdx.x == 0) seen[3 * blockIdx.x + round] = atomicAdd(arrivals + round, 0u);
    }
    end_cluster();
}

TEST(Mbarrier, TakesArrivalsOfOtherBlocks) {
    for (unsigned seed : {0u, 1u, 2u, 3u}) {
        const Schedule schedule(seed, 10);
        std::vector<unsigned> arrivals(3), seen(3 * 4);
        ASSERT_EQ(launch_clusters(arrive_everywhere, 4, 32, 4, 0, nullptr, arrivals.data(), seen.data()), cudaSuccess)
            << cudaGetErrorString(cudaPeekAtLastError());
        EXPECT_EQ(seen, std::vector<unsigned>(12, 4u));
    }
}

enum class Misuse {
    kNone,
    kNoInit,
    kInitTwice,
    kNoArrivals,
    kNoFence,
    kOverwritten,
    kArriveTooOften,
    kWaitForever,
    kBytesForever,
    kTooManyBytes,
    kWrongParity,
    kNoSuchBlock,
    kFinishedBlock,
    kGlobal,
};

template <Misuse kMisuse>
__global__ void misuse(uint64_t* global) {
    MOEK_SHARED(uint64_t, barrier, 2);
    if (threadIdx.x == 0) {
        if (kMisuse == Misuse::kGlobal) cuda::mbarrier_init(global, 1);
        if (kMisuse != Misuse::kNoInit) cuda::mbarrier_init(barrier, kMisuse == Misuse::kNoArrivals ? 0 : 1);
        if (kMisuse == Misuse::kInitTwice) cuda::mbarrier_init(barrier, 1);
        if (kMisuse != Misuse::kNoFence) cuda::mbarrier_fence_init();
        if (kMisuse == Misuse::kOverwritten) barrier[0] = 1;
    }
    end_cluster();
    if (kMisuse == Misuse::kFinishedBlock && blockIdx.x == 1) return;
    if (threadIdx.x != 0) return;
    if (kMisuse == Misuse::kFinishedBlock) {
        // Long enough for the other block to finish.
        for (int i = 0; i < 100; ++i) __nanosleep(1);
        cuda::mbarrier_arrive_at(barrier, 1);
    }
    if (kMisuse == Misuse::kTooManyBytes) cuda::mbarrier_arrive_expect(barrier, 1u << 20);
    if (kMisuse == Misuse::kBytesForever) {
        cuda::mbarrier_arrive_expect(barrier, 48);
        cuda::mbarrier_wait(barrier, 0);
    }
    if (kMisuse == Misuse::kArriveTooOften) {
        cuda::mbarrier_arrive_expect(barrier, 16);
        cuda::mbarrier_arrive_at(barrier, cuda::cluster_rank());
    }
    if (kMisuse == Misuse::kNoSuchBlock) cuda::mbarrier_arrive_at(barrier, 2);
    if (kMisuse != Misuse::kWaitForever) cuda::mbarrier_arrive_at(barrier, cuda::cluster_rank());
    cuda::mbarrier_wait(barrier, kMisuse == Misuse::kWrongParity ? 2 : 0);
}

template <Misuse kMisuse>
cudaError_t launch_misuse() {
    uint64_t global[1] = {};
    return launch_clusters(misuse<kMisuse>, 2, 32, 2, 0, nullptr, global);
}

// A thread that is not fast enough to see its phase, because the next one completes before it runs.
__global__ void missed_phase(int* order) {
    MOEK_SHARED(uint64_t, barriers, 2);
    begin_cluster(barriers, 2, 1);
    if (threadIdx.x == 0) {
        cuda::mbarrier_arrive_at(barriers + 1, 0);
        cuda::mbarrier_wait(barriers, 0);
        *order = 1;
    } else if (threadIdx.x == 32) {
        cuda::mbarrier_wait(barriers + 1, 0);
        cuda::mbarrier_arrive_at(barriers, 0);
        cuda::mbarrier_arrive_at(barriers, 0);
    }
}

TEST(Mbarrier, Refuses) {
    EXPECT_EQ(launch_misuse<Misuse::kNone>(), cudaSuccess) << cudaGetErrorString(cudaPeekAtLastError());
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kNoInit>(), cudaErrorLaunchFailure, "no mbarrier was initialised");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kInitTwice>(), cudaErrorLaunchFailure, "an mbarrier that is in use");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kNoArrivals>(), cudaErrorLaunchFailure, "a count of 0, expected 1..");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kNoFence>(), cudaErrorLaunchFailure,
                        "initialised without a fence.mbarrier_init after it");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kOverwritten>(), cudaErrorLaunchFailure,
                        "something was written over the mbarrier");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kArriveTooOften>(), cudaErrorLaunchFailure,
                        "more than the 1 arrivals of a phase");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kWaitForever>(), cudaErrorLaunchFailure,
                        "deadlock: block (0,0,0) thread (0,0,0) waits in mbarrier.try_wait");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kBytesForever>(), cudaErrorLaunchFailure, "for 0 arrivals and 48 bytes");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kTooManyBytes>(), cudaErrorLaunchFailure,
                        "1048576 bytes under way, it counts up to 1048575");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kWrongParity>(), cudaErrorLaunchFailure, "a parity of 2");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kNoSuchBlock>(), cudaErrorIllegalAddress, "block 2 of a cluster of 2");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kFinishedBlock>(), cudaErrorIllegalAddress,
                        "mbarrier.arrive: block 1 of the cluster has finished");
    EXPECT_EQ(launch_misuse<Misuse::kGlobal>(), cudaErrorIllegalAddress);
    int order = 0;
    MOEK_EXPECT_FAILURE(launch(missed_phase, 1, 64, 0, nullptr, &order), cudaErrorLaunchFailure,
                        "another phase has completed before this thread saw that of its own");
}

}  // namespace
}  // namespace moek::emulation::test
