// Top-k of one row. For files compiled per instruction set.
//
// All of these give the k largest keys, best first, equal keys in the order of their ids. Keys are not NaN.
#pragma once

#include <cstdint>

#include "cpu/common/vector_math.hpp"

namespace moek::cpu::MOEK_ISA_NAME {
namespace top_k_detail {

// Small candidate sets are sorted by counting, for each candidate, the better ones: no branch depends on the data. It takes
// 1.5 us for 128 of them on 16 lanes; a heap, whose branches do depend on the data, takes twice that from k = 16 on.
constexpr int64_t kMostCandidates = 128;

// Candidates are in the order of their ids.
template <class Real>
static inline void rank_candidates(const Real* keys, const int32_t* candidates, int64_t count, int64_t k,
                                   int32_t* ids) {
    Real key[kMostCandidates];
    int32_t rank[kMostCandidates];
    const int64_t padded = (count + 15) / 16 * 16;
    for (int64_t i = 0; i < count; ++i) key[i] = keys[candidates[i]];
    for (int64_t i = count; i < padded; ++i) key[i] = key[0];
    for (int64_t i = 0; i < padded; ++i) rank[i] = 0;
    for (int64_t j = 0; j < count; ++j) {
        const Real other = key[j];
        const int32_t place = static_cast<int32_t>(j);
        for (int32_t i = 0; i < static_cast<int32_t>(padded); ++i) {
            rank[i] += static_cast<int32_t>(other > key[i]) | (static_cast<int32_t>(other == key[i]) & (place < i));
        }
    }
    int32_t sorted[kMostCandidates];
    for (int64_t i = 0; i < count; ++i) sorted[rank[i]] = candidates[i];
    for (int64_t j = 0; j < k; ++j) ids[j] = sorted[j];
}

// The k-th largest of the maxima of kLanes interleaved parts of the row: at least k keys are not below it, and not many
// more when k is at most half of kLanes.
template <size_t kLanes, class Real>
static inline Real lower_bound(const Real* keys, int64_t E, int64_t k) {
    constexpr int64_t kStep = static_cast<int64_t>(kLanes);
    Real lane[kLanes];
    for (size_t i = 0; i < kLanes; ++i) lane[i] = keys[i];
    const Real* part = keys + kStep;
    int64_t left = E - kStep;
    for (; left >= kStep; part += kStep, left -= kStep) {
        for (size_t i = 0; i < kLanes; ++i) lane[i] = part[i] > lane[i] ? part[i] : lane[i];
    }
    for (int64_t i = 0; i < left; ++i) lane[i] = part[i] > lane[i] ? part[i] : lane[i];

    int32_t not_below[kLanes] = {};
    for (size_t j = 0; j < kLanes; ++j) {
        const Real other = lane[j];
        for (size_t i = 0; i < kLanes; ++i) not_below[i] += static_cast<int32_t>(other >= lane[i]);
    }
    Real bound = -kInfinity<Real>;
    for (size_t i = 0; i < kLanes; ++i) {
        const Real candidate = not_below[i] >= k ? lane[i] : bound;
        bound = candidate > bound ? candidate : bound;
    }
    return bound;
}

// False, with nothing written, when ties or an unlucky order leave too many candidates.
template <size_t kLanes, class Real>
static inline bool filter_top_k(const Real* keys, int64_t E, int64_t k, int32_t* ids) {
    const Real bound = lower_bound<kLanes>(keys, E, k);
    constexpr int64_t kChunk = 64;
    int32_t candidates[kMostCandidates + kChunk];
    int64_t count = 0;
    for (int64_t start = 0; start < E; start += kChunk) {
        const int64_t end = start + kChunk < E ? start + kChunk : E;
        for (int64_t e = start; e < end; ++e) {
            candidates[count] = static_cast<int32_t>(e);
            count += static_cast<int64_t>(keys[e] >= bound);
        }
        if (count > kMostCandidates) return false;
    }
    rank_candidates(keys, candidates, count, k, ids);
    return true;
}

// For any k: a heap of the k best so far with the worst on top, then sorted in place.
template <class Real>
static inline void heap_top_k(const Real* keys, int64_t E, int64_t k, int32_t* ids) {
    const auto worse = [&](int32_t a, int32_t b) { return keys[a] < keys[b] || (keys[a] == keys[b] && a > b); };
    const auto sift_down = [&](int64_t place, int64_t count) {
        const int32_t moving = ids[place];
        for (int64_t child; (child = 2 * place + 1) < count; place = child) {
            if (child + 1 < count && worse(ids[child + 1], ids[child])) ++child;
            if (!worse(ids[child], moving)) break;
            ids[place] = ids[child];
        }
        ids[place] = moving;
    };
    for (int64_t j = 0; j < k; ++j) ids[j] = static_cast<int32_t>(j);
    for (int64_t place = k / 2; place-- > 0;) sift_down(place, k);
    for (int64_t e = k; e < E; ++e) {
        // An equal key with a higher id is worse, so `>` is enough.
        if (keys[e] > keys[ids[0]]) {
            ids[0] = static_cast<int32_t>(e);
            sift_down(0, k);
        }
    }
    for (int64_t count = k; count-- > 1;) {
        const int32_t worst = ids[0];
        ids[0] = ids[count];
        ids[count] = worst;
        sift_down(0, count);
    }
}

}  // namespace top_k_detail

template <class Real>
static inline void top_k(const Real* keys, int64_t E, int64_t k, int32_t* ids) {
    using namespace top_k_detail;
    if (E <= 24 || (E <= 64 && k > 16) || (E <= kMostCandidates && k > 32)) {
        int32_t everything[kMostCandidates];
        for (int32_t e = 0; e < static_cast<int32_t>(E); ++e) everything[e] = e;
        return rank_candidates(keys, everything, E, k, ids);
    }
    if (k <= 8 && filter_top_k<16>(keys, E, k, ids)) return;
    if (k > 8 && k <= 16 && E >= 32 && filter_top_k<32>(keys, E, k, ids)) return;
    if (k > 16 && k <= 32 && filter_top_k<64>(keys, E, k, ids)) return;
    heap_top_k(keys, E, k, ids);
}

}  // namespace moek::cpu::MOEK_ISA_NAME
