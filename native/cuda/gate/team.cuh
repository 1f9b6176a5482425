// Teams: the threads that share a row. Each holds kPerThread neighbouring elements of it: thread i of a team those from
// i * kPerThread on. The maths of a row is written once for all teams.
//
// All threads of a warp (WarpTeam) or block (BlockTeam) call a team's functions together, also those whose row does not
// exist; what such rows hold does not matter. Blocks are one-dimensional, of whole warps. Sums have a fixed order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/warp.hpp"
#include "cuda/gate/selection.cuh"

namespace moek::cuda {

// kLanes neighbouring lanes of a warp; a warp takes 32 / kLanes rows at a time.
template <int kLanes>
class WarpTeam {
  public:
    static constexpr int kThreads = kLanes;

    static constexpr size_t scratch_bytes(int, int) { return 0; }

    __device__ __forceinline__ explicit WarpTeam(void* = nullptr) {}

    __device__ __forceinline__ int thread() const { return static_cast<int>(threadIdx.x) % kLanes; }
    __device__ __forceinline__ void sync() const { __syncwarp(); }
    // Of all rows that run side by side.
    __device__ __forceinline__ bool any(bool value) const { return __any_sync(kAllLanes, value) != 0; }
    __device__ __forceinline__ float sum(float value) const { return warp_sum<kLanes>(value); }
    // `value` is no NaN.
    __device__ __forceinline__ float max(float value) const {
        if constexpr (kLanes == 32) {
            return score_of_key(__reduce_max_sync(kAllLanes, ordered_key(value)));
        } else {
            return warp_max<kLanes>(value);
        }
    }

    // slot[i] becomes the place of key i among the k best, -1 beyond them. The keys are used up.
    template <int kPerThread>
    __device__ __forceinline__ void select(uint32_t (&key)[kPerThread], int k, int (&slot)[kPerThread]) const {
        static_assert(kPerThread == 1 || kLanes == 32, "several elements per lane take a whole warp");
        // A round of a whole warp has about the instructions of three exchanges.
        if constexpr (kLanes < 32) {
            slot[0] = select_by_counting<kLanes>(key[0], k);
        } else if (kPerThread == 1 && k > kLanes / 3) {
            slot[0] = select_by_counting<kLanes>(key[0], k);
        } else {
#pragma unroll
            for (int i = 0; i < kPerThread; ++i) slot[i] = -1;
            select_by_rounds(key, k, slot, [](int, uint32_t) {});
        }
    }
};

// A block of kBlockThreads, for rows that are too long for a warp. `scratch` is shared memory of its own.
template <int kBlockThreads>
class BlockTeam {
    static constexpr int kWarps = kBlockThreads / 32;

  public:
    static constexpr int kThreads = kBlockThreads;

    // Partial sums, then per warp the keys of its own k best and their places in the row.
    __host__ __device__ static constexpr int list_length(int per_thread, int k) {
        return k < 32 * per_thread ? k : 32 * per_thread;
    }
    static constexpr size_t scratch_bytes(int per_thread, int k) {
        return sizeof(uint32_t) * kWarps * static_cast<size_t>(1 + 2 * list_length(per_thread, k));
    }

    __device__ __forceinline__ explicit BlockTeam(void* scratch) : scratch_(static_cast<uint32_t*>(scratch)) {}

    __device__ __forceinline__ int thread() const { return static_cast<int>(threadIdx.x); }
    __device__ __forceinline__ void sync() const { __syncthreads(); }
    __device__ __forceinline__ bool any(bool value) const { return __syncthreads_or(value ? 1 : 0) != 0; }

    __device__ __forceinline__ float sum(float value) const {
        float* const partial = share(warp_sum(value));
        float total = partial[0];
#pragma unroll
        for (int warp = 1; warp < kWarps; ++warp) total += partial[warp];
        __syncthreads();
        return total;
    }

    __device__ __forceinline__ float max(float value) const {
        float* const partial = share(warp_max(value));
        float largest = partial[0];
#pragma unroll
        for (int warp = 1; warp < kWarps; ++warp) largest = fmaxf(largest, partial[warp]);
        __syncthreads();
        return largest;
    }

    // Every warp finds the k best of its part of the row by itself. A candidate's place in the row is then its place in
    // its warp's list plus the number of better ones in every other list, found by bisection: no loop over the row.
    template <int kPerThread>
    __device__ __forceinline__ void select(uint32_t (&key)[kPerThread], int k, int (&slot)[kPerThread]) const {
        const int warp = static_cast<int>(threadIdx.x) / 32;
        const int lane = static_cast<int>(threadIdx.x) % 32;
        const int length = list_length(kPerThread, k);
        uint32_t* const keys = scratch_ + kWarps;
        uint32_t* const places = keys + kWarps * length;
        uint32_t* const own = keys + warp * length;
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) slot[i] = -1;
        int elements = 0;
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) elements += key[i] != kNoKey ? 1 : 0;
        elements = __reduce_add_sync(kAllLanes, elements);
        const int rounds = elements < length ? elements : length;
        select_by_rounds(key, rounds, slot, [&](int round, uint32_t best) {
            if (lane == 0) own[round] = best;
        });
        for (int i = rounds + lane; i < length; i += 32) own[i] = kNoKey;
        __syncthreads();
        for (int candidate = thread(); candidate < kWarps * length; candidate += kBlockThreads) {
            const int list = candidate / length;
            const uint32_t value = keys[candidate];
            int place = candidate % length;
#pragma unroll
            for (int other = 0; other < kWarps; ++other) {
                // The elements of a lower warp have lower indices, so they win ties.
                const uint32_t bound = other < list ? value : value + 1;
                if (other != list) place += count_at_least(keys + other * length, length, bound);
            }
            places[candidate] = static_cast<uint32_t>(place);
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            if (slot[i] < 0) continue;
            const int place = static_cast<int>(places[warp * length + slot[i]]);
            slot[i] = place < k ? place : -1;
        }
    }

  private:
    // Every warp's value, for every thread to read; a barrier must follow before the next call.
    __device__ __forceinline__ float* share(float value) const {
        float* const partial = reinterpret_cast<float*>(scratch_);
        if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
        __syncthreads();
        return partial;
    }

    uint32_t* scratch_;
};

}  // namespace moek::cuda
