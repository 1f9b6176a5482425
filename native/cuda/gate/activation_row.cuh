// rank_lora's gates without a router, on one row of a = A x~: ACTIVATION_SIGNED and ACTIVATION_ABSOLUTE (FlyLoRA),
// ACTIVATION_SOFTMAX (MoRA), see moek_rank_gate. By element and by team, like gate_row.cuh.
#pragma once

#include <cuda_runtime.h>

#include "cuda/gate/gate_row.cuh"

namespace moek::cuda {
namespace gate_detail {

// Every selected rank counts as it is, but one whose score is NaN or -infinity weighs nothing.
template <int kPerThread, class Team>
__device__ __forceinline__ void unit_row_forward(const Team& team, const ActivationRule& rule,
                                                 const float (&a)[kPerThread], const float (&bias)[kPerThread],
                                                 GateRow<kPerThread>& row) {
    const int first = team.thread() * kPerThread;
    uint32_t key[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        float score = a[i] + bias[i];
        if (rule.kind == MOEK_RANK_GATE_ACTIVATION_ABSOLUTE) score = fabsf(score);
        key[i] = score > -kInfinity ? ordered_key(score) : kMaskedKey;
        key[i] = first + i < rule.softmax.E ? key[i] : kNoKey;
        row.weight[i] = key[i] > kMaskedKey ? 1.0f : 0.0f;
    }
    team.select(key, rule.softmax.k, row.slot);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) row.weight[i] = row.slot[i] >= 0 ? row.weight[i] : 0.0f;
}

// |a| of the row; what a holds from E on does not matter.
template <int kPerThread, class Team>
__device__ __forceinline__ float norm_of(const Team& team, int E, const float (&a)[kPerThread]) {
    const int first = team.thread() * kPerThread;
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) squares += first + i < E ? a[i] * a[i] : 0.0f;
    return sqrtf(team.sum(squares));
}

// softmax(a / (|a| + eps) / temperature), the k best that reach the threshold, normalised.
template <int kPerThread, class Team>
__device__ __forceinline__ void softmax_row_forward(const Team& team, const ActivationRule& rule,
                                                    const float (&a)[kPerThread], const float (&bias)[kPerThread],
                                                    GateRow<kPerThread>& row) {
    const float divisor = norm_of(team, rule.softmax.E, a) + rule.norm_eps;
    float logits[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) logits[i] = divisor == 0 ? 0.0f : a[i] / divisor;
    gate_row_forward(team, rule.softmax, logits, bias, false, row);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) row.weight[i] = row.weight[i] < rule.threshold ? 0.0f : row.weight[i];
    if (rule.normalize == MOEK_GATE_NORMALIZE_NONE) return;
    const float sum = sum_of(team, row.weight);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        row.weight[i] = sum == 0 ? 0.0f : rule.normalized_total() * row.weight[i] / sum;
    }
}

}  // namespace gate_detail

// Activations and bias (load_bias) of a thread's elements to the row's gate; row.lse is not set. What `a` holds from E on
// does not matter. The whole team calls together, see team.cuh.
template <int kPerThread, class Team>
__device__ __forceinline__ void activation_row_forward(const Team& team, const ActivationRule& rule,
                                                       const float (&a)[kPerThread], const float (&bias)[kPerThread],
                                                       GateRow<kPerThread>& row) {
    if (rule.kind == MOEK_RANK_GATE_ACTIVATION_SOFTMAX) {
        gate_detail::softmax_row_forward(team, rule, a, bias, row);
    } else {
        gate_detail::unit_row_forward(team, rule, a, bias, row);
    }
}

}  // namespace moek::cuda
