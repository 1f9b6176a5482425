// Backward of core_merge for one tile of tokens, behind the cores: from dp and du = sum_e p_e Q_e to
//
//   dl = p (dp - sum_e p_e dp_e) / temperature   with a router
//   du += W_g^T dl                               CORE, one f32 product over the tile
//
// and the left operand [du, dl] of the products that follow. A silent token, all of whose p are 0, passes nothing on.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/shared_memory.hpp"
#include "cuda/core_merge/partial_sums.cuh"
#include "cuda/core_merge/token_tile.cuh"
#include "cuda/gate/row_elements.cuh"
#include "cuda/gemm/product.hpp"
#include "moekernels.h"

namespace moek::cuda {

template <class Operand, class Weight>
struct FinishTask {
    int64_t T;
    int32_t r;
    int32_t E;
    int32_t router;
    int32_t parts;
    float inverse_temperature;
    WeightSource<Weight> W_g;  // CORE
    const float* p;            // [T, E]
    const uint8_t* live;       // [T]
    float* dp;                 // [parts, T, E]; the first part is used up
    float* dp_out;             // [T, E], or null
    float* du;                 // [T, r]; used up
    Operand* d;                // [T, d_pitch], or null: du [r], with a router zeros up to router_column, dl [E]
    int64_t d_pitch;
    int32_t router_column;
};

// All threads of the block take part. `shared` holds RouterProduct's kSharedBytes.
template <class Operand, class Weight>
__device__ __forceinline__ void finish_tile(const FinishTask<Operand, Weight>& task, int64_t first_token,
                                            unsigned char* shared) {
    const int r = task.r;
    const bool routed = task.router != MOEK_CORE_ROUTER_CALLER;
    const TokenPair pair(first_token);
    const bool exists = pair.token < task.T;
    const int E = exists ? task.E : 0;
    const bool silent = exists && task.live[pair.token] == 0;
    const float* const p = task.p + pair.token * task.E;
    float* const dp = task.dp + pair.token * task.E;
    float projection = 0;
    for (int e = pair.half; e < E; e += 2) {
        float sum = dp[e];
        for (int part = 1; part < task.parts; ++part) sum += dp[part * task.T * task.E + e];
        if (routed && silent) sum = 0;
        dp[e] = sum;
        if (task.dp_out != nullptr) task.dp_out[pair.token * task.E + e] = sum;
        projection = fmaf(p[e], sum, projection);
    }
    if (task.d == nullptr) return;

    projection = TokenPair::sum(projection);
    Operand* const row = task.d + pair.token * task.d_pitch;
    if (routed) {
        for (int e = pair.half; e < E; e += 2) {
            const float dl = silent ? 0.0f : p[e] * (dp[e] - projection) * task.inverse_temperature;
            dp[e] = dl;
            row[task.router_column + e] = from_float<Operand>(dl);
        }
        // The gap is part of the products' depth.
        for (int i = r + pair.half; exists && i < task.router_column; i += 2) row[i] = from_float<Operand>(0.0f);
    }
    __syncthreads();

    if (task.router == MOEK_CORE_ROUTER_CORE) {
        using P = RouterProduct<Along::kRows>;
        const TokenSource<float> dl = dense_rows(task.dp, task.T, task.E);
        for (int first = 0; first < r; first += P::kBlockColumns) {
            typename P::Sums through_router;
            through_router.clear();
            accumulate_product<P>(through_router, dl, first_token, task.W_g, first, 0, task.E, shared);
            through_router.for_each([&](int tile_row, int column, float& sum) {
                const int64_t token = first_token + tile_row;
                if (token < task.T && first + column < r) task.du[token * r + first + column] += sum;
            });
        }
        __syncthreads();
    }
    for_each_four({task.du, 1, r, task.T}, first_token, 0, r, [&](Four& four) {
#pragma unroll
        for (int i = 0; i < 4; ++i) four.value[i] = task.live[four.token] != 0 ? four.value[i] : 0.0f;
        store_elements(task.d + four.token * task.d_pitch + four.column, four.value, four.valid, true);
    });
}

// The same for a launch of its own: block x owns the tokens 128 x .. 128 x + 127.
template <class Operand, class Weight>
__global__ void __launch_bounds__(kProductThreads) finish_kernel(const FinishTask<Operand, Weight> task) {
    MOEK_DYNAMIC_SHARED(unsigned char, shared);
    finish_tile(task, static_cast<int64_t>(blockIdx.x) * kBlockRows, shared);
}

}  // namespace moek::cuda
