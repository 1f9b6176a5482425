// Top-k within a warp, on keys that order like scores.
//
// A key is 0 where a row has no element, 1 for a masked one (NaN or -infinity), else the bits of the score mapped so that
// unsigned integers order them; -0 and +0 share a key. Equal keys go to the lower index. So the k best of a row with at
// least k elements are always k distinct ones.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/warp.hpp"

namespace moek::cuda {

inline constexpr uint32_t kNoKey = 0;
inline constexpr uint32_t kMaskedKey = 1;

// `score` is no NaN. -infinity has the key 0x007FFFFF.
__device__ __forceinline__ uint32_t ordered_key(float score) {
    const uint32_t bits = __float_as_uint(score + 0.0f);  // -0 + 0 = +0
    return bits ^ ((bits & 0x80000000u) != 0 ? 0xFFFFFFFFu : 0x80000000u);
}

__device__ __forceinline__ float score_of_key(uint32_t key) {
    return __uint_as_float(key ^ ((key & 0x80000000u) != 0 ? 0x80000000u : 0xFFFFFFFFu));
}

// One key per lane, kLanes lanes per row: every lane counts the lanes that beat it, which is its place. kLanes - 1 exchanges
// whatever k is, none of which waits for another. Returns the place, or -1 from k on.
template <int kLanes>
__device__ __forceinline__ int select_by_counting(uint32_t key, int k) {
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    int place = 0;
#pragma unroll
    for (int distance = 1; distance < kLanes; ++distance) {
        // The partner is the lower one exactly when this lane has the leading bit of the distance.
        const int leading = distance >= 16 ? 16 : distance >= 8 ? 8 : distance >= 4 ? 4 : distance >= 2 ? 2 : 1;
        const uint32_t wins_ties = (lane & leading) != 0 ? 1u : 0u;
        const uint32_t other = __shfl_xor_sync(kAllLanes, key, distance);
        place += other + wins_ties > key ? 1 : 0;
    }
    return key != kNoKey && place < k ? place : -1;
}

// kPerLane neighbouring keys per lane, a whole warp per row: k rounds, each of which takes the best key that is left, at
// most as many as there are keys. slot[i] becomes the round that took key i, or stays. Keys that were taken become kNoKey.
// `on_best(round, key)` is called by all lanes.
template <int kPerLane, class OnBest>
__device__ __forceinline__ void select_by_rounds(uint32_t (&key)[kPerLane], int k, int (&slot)[kPerLane],
                                                 OnBest&& on_best) {
    const uint32_t lower_lanes = (1u << (threadIdx.x % 32)) - 1;
    uint32_t own = key[0];
#pragma unroll
    for (int i = 1; i < kPerLane; ++i) own = max(own, key[i]);
#pragma unroll 1
    for (int round = 0; round < k; ++round) {
        const uint32_t best = __reduce_max_sync(kAllLanes, own);
        on_best(round, best);
        // The lowest lane that holds it, and in it the first: the lowest index.
        const uint32_t holders = __ballot_sync(kAllLanes, own == best);
        bool open = own == best && (holders & lower_lanes) == 0;
        own = kNoKey;
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) {
            const bool taken = open && key[i] == best;
            slot[i] = taken ? round : slot[i];
            key[i] = taken ? kNoKey : key[i];
            open = open && !taken;
            own = max(own, key[i]);
        }
    }
}

// How many of the `count` keys at `keys`, in descending order, are at least `bound`.
__device__ __forceinline__ int count_at_least(const uint32_t* keys, int count, uint32_t bound) {
    int low = 0;
    int high = count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (keys[middle] >= bound) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

}  // namespace moek::cuda
