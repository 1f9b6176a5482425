// The gate on one row: the maths of moek_gate_args, shared by the op `gate` and by the routers that other kernels fuse.
//
// Everything is kept by element, not by slot: a thread of the team knows of each of its elements its slot among the k
// selected and its weight there. No weight is gathered, sums run over elements (those not selected add 0), and a fused
// kernel finds gate and activation of a rank in the same thread.
//
// An expert is *masked* when its logit is NaN or -infinity, or its bias is: it is selected only when nothing else is
// left, and its weight is the constant 0.
//
// What bounds a row: a chain of dependent warp instructions, the maximum, k rounds of selection (two each), and one or
// two sums (five each); the arithmetic between them is a few instructions per element.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>

#include "cuda/gate/gate_rule.hpp"
#include "cuda/gate/selection.cuh"
#include "cuda/gate/team.cuh"

namespace moek::cuda {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A row's gate, as one thread holds it.
template <int kPerThread>
struct GateRow {
    int slot[kPerThread];      // 0 is the best; -1: not selected, or no such element
    float weight[kPerThread];  // of a selected element; 0 elsewhere
    float lse;                 // the row's, where it was asked for
};

namespace gate_detail {

__device__ __forceinline__ bool is_unmasked(float logit, float bias) {
    return logit > -kInfinity && bias > -kInfinity;
}

// exp((z - shift) / temperature). With an infinite shift the mass is split evenly over the infinite logits.
__device__ __forceinline__ float shifted_exponential(const GateRule& rule, float z, float shift) {
    if (shift == kInfinity) return z == kInfinity ? 1.0f : 0.0f;
    return expf((z - shift) * rule.inverse_temperature);
}

// Sigmoid or identity score.
__device__ __forceinline__ float pointwise_score(const GateRule& rule, float z) {
    const float scaled = z * rule.inverse_temperature;
    return rule.score == MOEK_GATE_SCORE_SIGMOID ? 1 / (1 + expf(-scaled)) : scaled;
}

// The logits with NaN and what is no element replaced by -infinity; returns the largest of the row.
template <int kPerThread, class Team>
__device__ __forceinline__ float clean(const Team& team, int E, const float (&logits)[kPerThread],
                                       float (&z)[kPerThread]) {
    const int first = team.thread() * kPerThread;
    float largest = -kInfinity;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        z[i] = first + i < E && logits[i] > -kInfinity ? logits[i] : -kInfinity;
        largest = fmaxf(largest, z[i]);
    }
    return team.max(largest);
}

template <int kPerThread, class Team>
__device__ __forceinline__ float sum_of(const Team& team, const float (&values)[kPerThread]) {
    float sum = values[0];
#pragma unroll
    for (int i = 1; i < kPerThread; ++i) sum += values[i];
    return team.sum(sum);
}

// The softmax over the whole row; returns the sum of the shifted exponentials. Garbage in a row without any logit.
template <int kPerThread, class Team>
__device__ __forceinline__ float softmax(const Team& team, const GateRule& rule, const float (&z)[kPerThread],
                                         float largest, float (&p)[kPerThread]) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) p[i] = shifted_exponential(rule, z[i], largest);
    const float sum = sum_of(team, p);
    const float inverse_sum = 1 / sum;  // the sum is at least 1
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) p[i] *= inverse_sum;
    return sum;
}

// Bit i: element i is selected and not masked. One register instead of kPerThread.
template <int kPerThread>
__device__ __forceinline__ uint32_t live_elements(const float (&z)[kPerThread], const float (&bias)[kPerThread],
                                                  const int (&slot)[kPerThread]) {
    static_assert(kPerThread <= 32, "one bit per element");
    uint32_t live = 0;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) live |= slot[i] >= 0 && is_unmasked(z[i], bias[i]) ? 1u << i : 0u;
    return live;
}

__device__ __forceinline__ bool is_live(uint32_t live, int i) {
    return (live >> i & 1u) != 0;
}

// What weights are made of, before normalisation: 0 for elements that are not live. p is read where the weights are
// probabilities of the whole row.
template <int kPerThread, class Team>
__device__ __forceinline__ void selected_values(const Team& team, const GateRule& rule, const float (&z)[kPerThread],
                                                const float (&bias)[kPerThread], uint32_t live, float largest,
                                                const float (&p)[kPerThread], float (&values)[kPerThread]) {
    if (rule.is_selected_softmax()) {
        float shift = -kInfinity;
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) shift = is_live(live, i) ? fmaxf(shift, z[i]) : shift;
        shift = team.max(shift);
        // With all the mass on infinite logits that were not selected nothing is left. (Where no element is live the
        // shift does not matter.)
        const bool is_empty = largest == kInfinity && shift < largest;
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            values[i] = is_live(live, i) && !is_empty ? shifted_exponential(rule, z[i], shift) : 0.0f;
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        float value = rule.score == MOEK_GATE_SCORE_SOFTMAX ? p[i] : pointwise_score(rule, z[i]);
        if (rule.bias_mode == MOEK_BIAS_MODE_WEIGHT) value += bias[i];
        values[i] = is_live(live, i) ? value : 0.0f;
    }
}

// Turns values into weights, in place.
template <int kPerThread, class Team>
__device__ __forceinline__ void normalize_values(const Team& team, const GateRule& rule, float (&values)[kPerThread]) {
    if (rule.normalize == MOEK_GATE_NORMALIZE_NONE) {
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) values[i] *= rule.weight_scale;
        return;
    }
    float denominator = sum_of(team, values) + rule.eps;
    const bool overflows = fabsf(denominator) == kInfinity;
    if (team.any(overflows)) {
        // Infinite values share the whole weight; finite ones whose sum overflows are scaled down first.
        float largest = 0;
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) largest = fmaxf(largest, fabsf(values[i]));
        largest = team.max(largest);
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            const float part = largest == kInfinity ? (values[i] == largest ? 1.0f : 0.0f) : values[i] / largest;
            values[i] = overflows ? part : values[i];
        }
        const float sum = sum_of(team, values);
        denominator = overflows ? sum : denominator;
    }
    const float factor = denominator == 0 ? 0.0f : rule.normalized_total() * rule.weight_scale;
    const float divisor = denominator == 0 ? 1.0f : denominator;
    // The quotient first: a single value divided by itself is exactly 1.
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) values[i] = factor * (values[i] / divisor);
}

}  // namespace gate_detail

// The bias of a thread's elements; 0 without one.
template <int kPerThread, class Team>
__device__ __forceinline__ void load_bias(const Team& team, const GateRule& rule, float (&bias)[kPerThread]) {
    const int first = team.thread() * kPerThread;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        bias[i] = rule.bias != nullptr && first + i < rule.E ? rule.bias[first + i] : 0.0f;
    }
}

// Logits and bias (load_bias) of a thread's elements to the row's gate. What logits hold from E on does not matter. The
// whole team calls together, see team.cuh.
template <int kPerThread, class Team>
__device__ __forceinline__ void gate_row_forward(const Team& team, const GateRule& rule,
                                                 const float (&logits)[kPerThread], const float (&bias)[kPerThread],
                                                 bool wants_lse, GateRow<kPerThread>& row) {
    using namespace gate_detail;
    const int first = team.thread() * kPerThread;
    float z[kPerThread];
    const float largest = clean(team, rule.E, logits, z);

    const bool is_softmax = rule.score == MOEK_GATE_SCORE_SOFTMAX;
    const bool has_keys = rule.bias != nullptr && !rule.all;
    float p[kPerThread] = {};
    row.lse = largest;
    if (wants_lse || (is_softmax && (has_keys || !rule.is_selected_softmax()))) {
        const float sum = softmax(team, rule, z, largest, p);
        if (fabsf(largest) < kInfinity) row.lse = largest / rule.temperature + logf(sum);
    }

    if (rule.all) {
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) row.slot[i] = first + i < rule.E ? first + i : -1;
    } else {
        uint32_t key[kPerThread];
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            // Without a bias the logits themselves order the experts, also where scores underflow or saturate.
            float score = z[i];
            if (has_keys) {
                score = (is_softmax ? p[i] : pointwise_score(rule, z[i])) + bias[i];
                score = is_unmasked(z[i], bias[i]) ? score : -kInfinity;
            }
            key[i] = score > -kInfinity ? ordered_key(score) : kMaskedKey;
            key[i] = first + i < rule.E ? key[i] : kNoKey;
        }
        team.select(key, rule.k, row.slot);
    }

    selected_values(team, rule, z, bias, live_elements(z, bias, row.slot), largest, p, row.weight);
    normalize_values(team, rule, row.weight);
}

// Writes ids [k] and weights [k] of a row.
template <int kPerThread, class Team>
__device__ __forceinline__ void store_gate_row(const Team& team, const GateRow<kPerThread>& row, int32_t* ids,
                                               float* weights) {
    const int first = team.thread() * kPerThread;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        if (row.slot[i] < 0) continue;
        ids[row.slot[i]] = first + i;
        weights[row.slot[i]] = row.weight[i];
    }
}

}  // namespace moek::cuda
