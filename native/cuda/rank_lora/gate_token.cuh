// rank_lora's gate of one token, for the kernels that run it: after the product with [A; W_r], in its epilogue, or ahead of
// the product with B.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/gate/activation_row.cuh"
#include "cuda/gate/gate_row.cuh"
#include "cuda/rank_lora/rank_row.cuh"
#include "moekernels.h"

namespace moek::cuda {

// What the gate has to know of a call, and where its results go.
struct GateTask {
    ActivationRule rule;  // its `softmax` is the router's rule with the gate ROUTER
    int64_t T;
    int32_t gate;
    int32_t partition;
    int32_t router_rows;
    float scale;
    int32_t* ids;
    float* gates;
    float* u;            // or null
    float* gate_logits;  // or null
    unsigned* counts;    // or null

    __host__ __device__ int r() const { return rule.softmax.E; }
    __host__ __device__ int k() const { return rule.softmax.k; }
};

inline GateTask make_gate_task(const moek_rank_lora_args& args) {
    const bool routed = args.gate == MOEK_RANK_GATE_ROUTER;
    GateTask task = {};
    task.rule = make_activation_rule(args);
    if (routed) task.rule.softmax = make_router_rule(args);
    task.T = args.T;
    task.gate = args.gate;
    task.partition = static_cast<int32_t>(args.rank_partition);
    task.router_rows = static_cast<int32_t>(routed ? args.r / args.rank_partition : 0);
    task.scale = static_cast<float>(args.scale);
    task.ids = static_cast<int32_t*>(args.ids);
    task.gates = static_cast<float*>(args.gates);
    task.u = static_cast<float*>(args.u);
    task.gate_logits = static_cast<float*>(args.gate_logits);
    task.counts = static_cast<unsigned*>(args.counts);
    return task;
}

// Where a token's a [r] and z [router_rows] lie, as the parts of a sum.
struct GateInputs {
    const float* first;
    int32_t splits;
    int64_t split_stride;
};

// From a and z to h = scale gate u of the thread's ranks, 0 where they are not selected. With `writes` ids, gates, u and
// gate_logits go to memory, and ids are counted in `histogram` [r] unless that is null. `places` as in find_slots, for the
// gate CALLER only. The whole team calls together, see cuda/gate/team.cuh; a token that does not `exist` writes nothing.
template <int kPerThread, class Team>
__device__ __forceinline__ void gate_token(const Team& team, const GateTask& task, const float (&bias)[kPerThread],
                                           const GateInputs& inputs, int64_t token, bool exists, bool writes,
                                           unsigned* histogram, int* places, float (&h)[kPerThread]) {
    const int r = task.r();
    const int k = task.k();
    const int first = team.thread() * kPerThread;
    const int valid = exists ? r - first : 0;
    writes = writes && exists;
    float a[kPerThread];
    sum_splits(inputs.first + first, inputs.splits, inputs.split_stride, valid, a);

    GateRow<kPerThread> gate;
    if (task.gate == MOEK_RANK_GATE_ROUTER) {
        float z[kPerThread];
        sum_router_splits(inputs.first + r, inputs.splits, inputs.split_stride, first, task.partition, valid, z);
        gate_row_forward(team, task.rule.softmax, z, bias, false, gate);
        if (writes && task.gate_logits != nullptr) {
            float* const saved = task.gate_logits + token * task.router_rows;
#pragma unroll
            for (int i = 0; i < kPerThread; ++i) {
                if (i < valid && (first + i) % task.partition == 0) saved[(first + i) / task.partition] = z[i];
            }
        }
    } else if (task.gate == MOEK_RANK_GATE_CALLER) {
        find_slots(team, r, k, exists, task.ids + token * k, places, gate.slot);
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            gate.weight[i] = gate.slot[i] >= 0 ? task.gates[token * k + gate.slot[i]] : 0.0f;
        }
        team.sync();
    } else {
        activation_row_forward(team, task.rule, a, bias, gate);
        if (writes && task.gate == MOEK_RANK_GATE_ACTIVATION_SOFTMAX && task.gate_logits != nullptr) {
#pragma unroll
            for (int i = 0; i < kPerThread; ++i) {
                if (i < valid) task.gate_logits[token * r + first + i] = a[i];
            }
        }
    }

    if (writes && task.gate != MOEK_RANK_GATE_CALLER) {
        store_gate_row(team, gate, task.ids + token * k, task.gates + token * k);
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        // A zero gate contributes nothing, whatever it gates.
        const float factor = task.scale * gate.weight[i];
        const bool selected = exists && gate.slot[i] >= 0;
        h[i] = selected && factor != 0 ? factor * a[i] : 0.0f;
        if (!selected || !writes) continue;
        if (task.u != nullptr) task.u[token * k + gate.slot[i]] = a[i];
        if (histogram != nullptr) atomicAdd(&histogram[first + i], 1u);
    }
}

// A block's histogram [r] before it counts and after. All threads take part.
__device__ __forceinline__ void clear_histogram(unsigned* histogram, int r) {
    for (int i = static_cast<int>(threadIdx.x); i < r; i += static_cast<int>(blockDim.x)) histogram[i] = 0;
    __syncthreads();
}

__device__ __forceinline__ void add_histogram(const unsigned* histogram, int r, unsigned* counts) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < r; i += static_cast<int>(blockDim.x)) {
        if (histogram[i] != 0) atomicAdd(&counts[i], histogram[i]);
    }
}

}  // namespace moek::cuda
