// core_merge's router for one tile of tokens: from the sums of A x~ (and of the INPUT router) to u, p and the left operand of
// the product with the cores.
//
//   CORE     logits = W_g u, one f32 product over the tile, whatever the dtype
//   INPUT    logits come beside u
//   CALLER   p is given
//   p = softmax(logits / temperature); a NaN counts as -infinity, infinite logits share the weight, and a token with
//   nothing but NaN and -infinity is silent: all its p are 0
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/shared_memory.hpp"
#include "cuda/core_merge/partial_sums.cuh"
#include "cuda/core_merge/token_tile.cuh"
#include "cuda/gate/gate_row.cuh"
#include "cuda/gate/row_elements.cuh"
#include "moekernels.h"

namespace moek::cuda {

template <class Operand, class Weight>
struct RouteTask {
    PartialSums sums;  // u [r], then with the INPUT router logits [E]
    int32_t r;
    int32_t E;
    int32_t router;
    float inverse_temperature;
    WeightSource<Weight> W_g;  // CORE
    float* u;                  // [T, r]; may be null unless CORE
    int32_t u_aligned;
    Operand* operand;  // [T, pitch]: u in the operands' type
    int64_t pitch;
    float* p;       // [T, E]
    uint8_t* live;  // [T]: whether any p is not 0
};

// Logits to weights, in place. All threads of the block call together; E = 0 for a token that does not exist.
__device__ __forceinline__ bool softmax_in_place(float* p, int E, int half, float inverse_temperature) {
    float largest = -kInfinity;
    for (int e = half; e < E; e += 2) largest = fmaxf(largest, p[e]);
    largest = TokenPair::max(largest);
    float sum = 0;
    for (int e = half; e < E; e += 2) {
        const float z = p[e];
        float weight = z > -kInfinity ? expf((z - largest) * inverse_temperature) : 0.0f;
        if (largest == kInfinity) weight = z == kInfinity ? 1.0f : 0.0f;
        p[e] = weight;
        sum += weight;
    }
    sum = TokenPair::sum(sum);
    const float factor = largest == -kInfinity ? 0.0f : 1 / sum;
    for (int e = half; e < E; e += 2) p[e] *= factor;
    return largest > -kInfinity;
}

// All threads of the block take part, and see the results afterwards. `shared` holds RouterProduct's kSharedBytes.
template <class Operand, class Weight>
__device__ __forceinline__ void route_tile(const RouteTask<Operand, Weight>& task, int64_t first_token,
                                           unsigned char* shared) {
    const int r = task.r;
    const int E = task.E;
    for_each_four(task.sums, first_token, 0, r, [&](const Four& four) {
        store_elements(task.operand + four.token * task.pitch + four.column, four.value, four.valid, true);
        if (task.u != nullptr) {
            store_elements(task.u + four.token * r + four.column, four.value, four.valid, task.u_aligned != 0);
        }
    });
    if (task.router == MOEK_CORE_ROUTER_INPUT) {
        for_each_four(task.sums, first_token, r, E, [&](const Four& four) {
            store_elements(task.p + four.token * E + four.column, four.value, four.valid, false);
        });
    } else if (task.router == MOEK_CORE_ROUTER_CORE) {
        __syncthreads();
        using P = RouterProduct<Along::kDepth>;
        const TokenSource<float> u = dense_rows(task.u, task.sums.T, r);
        for (int first = 0; first < E; first += P::kBlockColumns) {
            typename P::Sums logits;
            logits.clear();
            accumulate_product<P>(logits, u, first_token, task.W_g, first, 0, r, shared);
            logits.for_each([&](int row, int column, float& logit) {
                const int64_t token = first_token + row;
                if (token < task.sums.T && first + column < E) task.p[token * E + first + column] = logit;
            });
        }
    }
    __syncthreads();

    const TokenPair pair(first_token);
    const bool exists = pair.token < task.sums.T;
    float* const p = task.p + pair.token * E;
    const int own_E = exists ? E : 0;
    bool live = false;
    if (task.router != MOEK_CORE_ROUTER_CALLER) {
        live = softmax_in_place(p, own_E, pair.half, task.inverse_temperature);
    } else {
        for (int e = pair.half; e < own_E; e += 2) live = live || p[e] != 0;
        live = TokenPair::any(live);
    }
    if (exists && pair.half == 0) task.live[pair.token] = live ? 1 : 0;
    __syncthreads();
}

// The same for a launch of its own: block x owns the tokens 128 x .. 128 x + 127.
template <class Operand, class Weight>
__global__ void __launch_bounds__(kProductThreads) route_kernel(const RouteTask<Operand, Weight> task) {
    MOEK_DYNAMIC_SHARED(unsigned char, shared);
    route_tile(task, static_cast<int64_t>(blockIdx.x) * kBlockRows, shared);
}

}  // namespace moek::cuda
