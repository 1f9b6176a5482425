// Shuffles, votes, matches and reductions against plain loops, for every width and under several schedules.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>

#include "cuda/common/warp.hpp"
#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

constexpr unsigned kAll = 0xFFFFFFFFu;

template <class T>
T value_of(unsigned lane) {
    return static_cast<T>(lane * 2654435761u % 1000003u) - static_cast<T>(500);
}

template <class T>
__global__ void shuffles(T* out, int argument, int width) {
    const unsigned thread = threadIdx.x;
    const T value = value_of<T>(thread);
    out[thread] = __shfl_sync(kAll, value, argument, width);
    out[blockDim.x + thread] = __shfl_up_sync(kAll, value, static_cast<unsigned>(argument), width);
    out[2 * blockDim.x + thread] = __shfl_down_sync(kAll, value, static_cast<unsigned>(argument), width);
    out[3 * blockDim.x + thread] = __shfl_xor_sync(kAll, value, argument, width);
}

// What CUDA's documentation says, lane by lane.
int shuffle_source(int form, int lane, int argument, int width) {
    const int group = lane / width * width;
    switch (form) {
        case 0:
            return group + argument % width;
        case 1:
            return lane - argument < group ? lane : lane - argument;
        case 2:
            return lane + argument >= group + width ? lane : lane + argument;
        default:
            return (lane ^ argument) >= group + width ? lane : lane ^ argument;
    }
}

template <class T>
void check_shuffles() {
    constexpr int kThreads = 64;
    for (int width : {1, 2, 4, 8, 16, 32}) {
        for (int argument : {0, 1, 2, 3, 7, 15, 16, 31}) {
            std::vector<T> out(4 * kThreads);
            run(shuffles<T>, 1, kThreads, out.data(), argument, width);
            for (int form = 0; form < 4; ++form) {
                for (int thread = 0; thread < kThreads; ++thread) {
                    const int source = thread / 32 * 32 + shuffle_source(form, thread % 32, argument, width);
                    ASSERT_EQ(out[static_cast<size_t>(form * kThreads + thread)],
                              value_of<T>(static_cast<unsigned>(source)))
                        << "form " << form << ", thread " << thread << ", argument " << argument << ", width " << width;
                }
            }
        }
    }
}

TEST(WarpFunctions, ShufflesOfEveryTypeAndWidth) {
    for (unsigned seed : {0u, 1u}) {
        const Schedule schedule(seed, 10 * seed);
        check_shuffles<int>();
        check_shuffles<unsigned>();
        check_shuffles<float>();
        check_shuffles<double>();
        check_shuffles<long long>();
        check_shuffles<unsigned long long>();
    }
}

// The lanes of each third meet on their own, in different numbers of rounds.
__global__ void separate_groups(int* out) {
    const unsigned lane = threadIdx.x % 32;
    const unsigned group = lane % 3;
    unsigned mask = 0;
    for (unsigned other = group; other < 32; other += 3) mask |= 1u << other;
    int sum = 0;
    for (unsigned round = 0; round <= group; ++round) {
        for (unsigned other = group; other < 32; other += 3) {
            sum += __shfl_sync(mask, static_cast<int>(lane * (round + 1)), static_cast<int>(other));
        }
        __syncwarp(mask);
    }
    __syncwarp();
    out[threadIdx.x] = sum;
}

TEST(WarpFunctions, GroupsOfLanesMeetOnTheirOwn) {
    for (unsigned seed : {0u, 1u, 2u, 3u}) {
        const Schedule schedule(seed, 20);
        std::vector<int> out(64);
        run(separate_groups, 1, 64, out.data());
        for (int thread = 0; thread < 64; ++thread) {
            int expected = 0;
            for (int round = 0; round <= thread % 32 % 3; ++round) {
                for (int other = thread % 32 % 3; other < 32; other += 3) expected += other * (round + 1);
            }
            EXPECT_EQ(out[static_cast<size_t>(thread)], expected) << thread;
        }
    }
}

// More different masks, one after the other, than there are places to meet.
__global__ void many_masks(int* out) {
    const unsigned lane = threadIdx.x % 32;
    int sum = 0;
    for (unsigned distance = 1; distance < 32; ++distance) {
        // Pairs of lanes, each by its own mask, in an order that both can keep.
        for (unsigned low = 0; low < 32; ++low) {
            const unsigned high = (low + distance) % 32;
            if (lane != low && lane != high) continue;
            sum +=
                __shfl_sync(1u << low | 1u << high, static_cast<int>(lane), static_cast<int>(lane == low ? high : low));
        }
    }
    out[threadIdx.x] = sum;
}

TEST(WarpFunctions, ManyMasksInTurn) {
    for (unsigned seed : {0u, 1u, 2u}) {
        const Schedule schedule(seed, 20);
        std::vector<int> out(32);
        run(many_masks, 1, 32, out.data());
        for (int lane = 0; lane < 32; ++lane) {
            EXPECT_EQ(out[static_cast<size_t>(lane)], 2 * (31 * 32 / 2 - lane)) << lane;
        }
    }
}

__global__ void votes(unsigned* out, unsigned predicates) {
    const unsigned lane = threadIdx.x;
    const int mine = static_cast<int>(predicates >> lane & 1u) * 7;
    out[lane] = __ballot_sync(kAll, mine);
    out[32 + lane] = static_cast<unsigned>(__any_sync(kAll, mine));
    out[64 + lane] = static_cast<unsigned>(__all_sync(kAll, mine));
    // The lower half alone.
    out[96 + lane] = lane < 16 ? __ballot_sync(0xFFFFu, mine) : 0;
    out[128 + lane] = lane < 16 ? static_cast<unsigned>(__all_sync(0xFFFFu, mine)) : 0;
}

TEST(WarpFunctions, Votes) {
    for (unsigned predicates : {0u, kAll, 0x0000FFFFu, 0x80000001u, 0x12345678u}) {
        std::vector<unsigned> out(160);
        run(votes, 1, 32, out.data(), predicates);
        for (unsigned lane = 0; lane < 32; ++lane) {
            EXPECT_EQ(out[lane], predicates);
            EXPECT_EQ(out[32 + lane], predicates != 0 ? 1u : 0u);
            EXPECT_EQ(out[64 + lane], predicates == kAll ? 1u : 0u);
            EXPECT_EQ(out[96 + lane], lane < 16 ? predicates & 0xFFFFu : 0u);
            EXPECT_EQ(out[128 + lane], lane < 16 && (predicates & 0xFFFFu) == 0xFFFFu ? 1u : 0u);
        }
    }
}

template <class T>
__global__ void matches(const T* values, unsigned* out) {
    const unsigned lane = threadIdx.x;
    out[lane] = __match_any_sync(kAll, values[lane]);
    int all = -1;
    out[32 + lane] = __match_all_sync(kAll, values[lane], &all);
    out[64 + lane] = static_cast<unsigned>(all);
}

template <class T>
void check_matches(const std::vector<T>& values) {
    std::vector<unsigned> out(96);
    run(matches<T>, 1, 32, values.data(), out.data());
    const bool same = std::count(values.begin(), values.end(), values[0]) == 32;
    for (size_t lane = 0; lane < 32; ++lane) {
        unsigned expected = 0;
        for (size_t other = 0; other < 32; ++other) expected |= (values[other] == values[lane] ? 1u : 0u) << other;
        EXPECT_EQ(out[lane], expected);
        EXPECT_EQ(out[32 + lane], same ? kAll : 0u);
        EXPECT_EQ(out[64 + lane], same ? 1u : 0u);
    }
}

TEST(WarpFunctions, Matches) {
    std::vector<int> ints(32);
    std::vector<unsigned long long> wides(32);
    for (size_t lane = 0; lane < 32; ++lane) {
        ints[lane] = static_cast<int>(lane * lane % 7);
        wides[lane] = (lane % 5) << 40;
    }
    check_matches(ints);
    check_matches(wides);
    check_matches(std::vector<int>(32, -3));
}

template <class T>
__global__ void integer_reductions(const T* values, T* out, unsigned mask) {
    const unsigned lane = threadIdx.x;
    if ((mask >> lane & 1u) == 0) return;
    out[lane] = __reduce_add_sync(mask, values[lane]);
    out[32 + lane] = __reduce_min_sync(mask, values[lane]);
    out[64 + lane] = __reduce_max_sync(mask, values[lane]);
    const unsigned bits = static_cast<unsigned>(values[lane]);
    out[96 + lane] = static_cast<T>(__reduce_and_sync(mask, bits));
    out[128 + lane] = static_cast<T>(__reduce_or_sync(mask, bits));
    out[160 + lane] = static_cast<T>(__reduce_xor_sync(mask, bits));
}

template <class T>
void check_integer_reductions(unsigned mask) {
    std::vector<T> values(32);
    for (unsigned lane = 0; lane < 32; ++lane) values[lane] = static_cast<T>(lane * 2654435761u + 12345u);
    std::vector<T> out(192, T{77});
    run(integer_reductions<T>, 1, 32, values.data(), out.data(), mask);
    unsigned sum = 0, conjunction = ~0u, disjunction = 0, parity = 0;
    T least = std::numeric_limits<T>::max(), most = std::numeric_limits<T>::min();
    for (unsigned lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1u) == 0) continue;
        const unsigned bits = static_cast<unsigned>(values[lane]);
        sum += bits;
        conjunction &= bits;
        disjunction |= bits;
        parity ^= bits;
        least = std::min(least, values[lane]);
        most = std::max(most, values[lane]);
    }
    const T expected[] = {static_cast<T>(sum),   least, most, static_cast<T>(conjunction), static_cast<T>(disjunction),
                          static_cast<T>(parity)};
    for (unsigned i = 0; i < 192; ++i) {
        EXPECT_EQ(out[i], (mask >> (i % 32) & 1u) != 0 ? expected[i / 32] : T{77}) << i;
    }
}

TEST(WarpFunctions, IntegerReductions) {
    for (unsigned mask : {kAll, 0x0000FF00u, 1u}) {
        check_integer_reductions<int>(mask);
        check_integer_reductions<unsigned>(mask);
    }
}

template <int kWidth>
__global__ void float_reductions(const float* values, float* out) {
    out[threadIdx.x] = cuda::warp_sum<kWidth>(values[threadIdx.x]);
    out[32 + threadIdx.x] = cuda::warp_max<kWidth>(values[threadIdx.x]);
}

template <int kWidth>
void check_float_reductions() {
    std::vector<float> values(32);
    for (size_t lane = 0; lane < 32; ++lane) values[lane] = static_cast<float>(lane * 37 % 41) - 20;
    values[5] = NAN;
    std::vector<float> out(64);
    run(float_reductions<kWidth>, 1, 32, values.data(), out.data());
    for (size_t lane = 0; lane < 32; ++lane) {
        const size_t group = lane / kWidth * kWidth;
        float sum = 0, most = NAN;
        for (size_t other = group; other < group + kWidth; ++other) {
            sum += values[other];
            most = std::fmax(most, values[other]);
        }
        EXPECT_TRUE(out[lane] == sum || (std::isnan(sum) && std::isnan(out[lane]))) << lane;
        EXPECT_TRUE(out[32 + lane] == most || (std::isnan(most) && std::isnan(out[32 + lane]))) << lane;
    }
}

TEST(WarpFunctions, FloatReductions) {
    check_float_reductions<32>();
    check_float_reductions<16>();
    check_float_reductions<4>();
    check_float_reductions<1>();
}

}  // namespace
}  // namespace moek::emulation::test
