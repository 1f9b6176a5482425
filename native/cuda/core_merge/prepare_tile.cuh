// Backward of core_merge for one tile of tokens, ahead of the cores: dv = scale dropout'(dY B) and, where they are asked for,
// scale dropout(v) and u as operands; which tokens are live.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/philox.hpp"
#include "cuda/common/shared_memory.hpp"
#include "cuda/core_merge/partial_sums.cuh"
#include "cuda/core_merge/token_tile.cuh"
#include "cuda/gate/row_elements.cuh"

namespace moek::cuda {

template <class Operand>
struct PrepareTask {
    PartialSums sums;  // dY B [r]; no splits when dv is null
    int32_t r;
    int32_t E;
    float scale;
    Dropout dropout;
    const float* u;  // [T, r]
    const float* v;  // [T, r]
    int32_t v_aligned;
    const float* p;   // [T, E]
    Operand* dv;      // [T, pitch], or null; the same for the next two
    Operand* vd;      // scale dropout(v)
    Operand* u_rows;  // u
    int64_t pitch;
    uint8_t* live;  // [T]
};

// All threads of the block take part, and see the results afterwards.
template <class Operand>
__device__ __forceinline__ void prepare_tile(const PrepareTask<Operand>& task, int64_t first_token) {
    const int r = task.r;
    if (task.dv != nullptr || task.vd != nullptr) {
        for_each_four(task.sums, first_token, 0, r, [&](const Four& four) {
            const int64_t element = four.token * r + four.column;
            const int64_t place = four.token * task.pitch + four.column;
            float factors[4] = {1, 1, 1, 1};
            if (task.dropout.active()) dropout_run(task.dropout, static_cast<uint64_t>(element), factors);
            float values[4];
            if (task.dv != nullptr) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    values[i] = task.scale == 0 ? 0.0f : task.scale * (four.value[i] * factors[i]);
                }
                store_elements(task.dv + place, values, four.valid, true);
            }
            if (task.vd != nullptr) {
                load_elements(task.v + element, four.valid, task.v_aligned != 0, values);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    values[i] = task.scale == 0 ? 0.0f : task.scale * (values[i] * factors[i]);
                }
                store_elements(task.vd + place, values, four.valid, true);
            }
        });
    }
    if (task.u_rows != nullptr) {
        for_each_four({task.u, 1, r, task.sums.T}, first_token, 0, r, [&](const Four& four) {
            store_elements(task.u_rows + four.token * task.pitch + four.column, four.value, four.valid, true);
        });
    }
    const TokenPair pair(first_token);
    const bool exists = pair.token < task.sums.T;
    bool live = false;
    for (int e = pair.half; exists && e < task.E; e += 2) live = live || task.p[pair.token * task.E + e] != 0;
    live = TokenPair::any(live);
    if (exists && pair.half == 0) task.live[pair.token] = live ? 1 : 0;
    __syncthreads();
}

// The same for a launch of its own: block x owns the tokens 128 x .. 128 x + 127.
template <class Operand>
__global__ void __launch_bounds__(kProductThreads) prepare_kernel(const PrepareTask<Operand> task) {
    prepare_tile(task, static_cast<int64_t>(blockIdx.x) * kBlockRows);
}

}  // namespace moek::cuda
