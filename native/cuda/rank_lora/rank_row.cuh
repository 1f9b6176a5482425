// What rank_lora's two row kernels share: a team's elements are the ranks of one token, see cuda/gate/team.cuh.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/gate/team.cuh"

namespace moek::cuda {

// Adds up the splits of a thread's elements, in their order. What lies from `valid` on becomes 0.
template <int kPerThread>
__device__ __forceinline__ void sum_splits(const float* first, int splits, int64_t split_stride, int valid,
                                           float (&sum)[kPerThread]) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) sum[i] = 0;
    for (int s = 0; s < splits; ++s) {
        const float* const part = first + s * split_stride;
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            if (i < valid) sum[i] += part[i];
        }
    }
}

// The same for the logits of ranks that share a row of the router.
template <int kPerThread>
__device__ __forceinline__ void sum_router_splits(const float* row, int splits, int64_t split_stride, int first,
                                                  int partition, int valid, float (&sum)[kPerThread]) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        sum[i] = 0;
        if (i >= valid) continue;
        const float* const place = row + (first + i) / partition;
        for (int s = 0; s < splits; ++s) sum[i] += place[s * split_stride];
    }
}

// slot[i]: which of the row's k ids names the thread's element i; -1 for none. Ids outside 0 .. r - 1 are passed over, and
// of equal ids the last one counts, which no order of threads decides. `places` is shared memory of the team's own,
// Team::kThreads * kPerThread of them; a barrier must follow before they are used again.
template <int kPerThread, class Team>
__device__ __forceinline__ void find_slots(const Team& team, int r, int k, bool exists, const int32_t* ids, int* places,
                                           int (&slot)[kPerThread]) {
    const int thread = team.thread();
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) places[i * Team::kThreads + thread] = -1;
    team.sync();
    for (int j = thread; exists && j < k; j += Team::kThreads) {
        const unsigned id = static_cast<unsigned>(ids[j]);
        if (id < static_cast<unsigned>(r)) atomicMax(&places[id % kPerThread * Team::kThreads + id / kPerThread], j);
    }
    team.sync();
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) slot[i] = places[i * Team::kThreads + thread];
}

}  // namespace moek::cuda
