// The gradient of the gate on one row, by element like gate_row.cuh.
//
// A row's ids and the gradients to its weights come by slot. `elements_of_slots` hands each element its slot and value
// through shared memory; from there everything is in registers.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/gate/gate_row.cuh"

namespace moek::cuda {

// One for every element that a team has room for. Two arrays side by side: `slot` is an element's, `value` a slot's.
struct SlotEntry {
    uint32_t slot;
    float value;
};

// Finds for each of the thread's elements its slot (-1: not selected) and values[slot] (0 where not selected). `ids` [k]
// and `values` [k] may be anywhere; an id outside 0 .. E - 1 is passed over, and of an id that appears twice the first
// counts. `entries` is shared memory of the team's own, Team::kThreads * kPerThread of them; a barrier has to follow before
// anything but this function uses it. `exists` is false for a row that is not there: its ids are not read.
template <int kPerThread, class Team>
__device__ __forceinline__ void elements_of_slots(const Team& team, int E, int k, bool exists, const int32_t* ids,
                                                  const float* values, SlotEntry* entries, int (&slot)[kPerThread],
                                                  float (&value)[kPerThread]) {
    constexpr uint32_t kNoSlot = 0xFFFFFFFFu;
    // Neighbours of one thread lie Team::kThreads apart, those of neighbouring threads side by side.
    const int thread = team.thread();
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) entries[i * Team::kThreads + thread].slot = kNoSlot;
    team.sync();
    for (int j = thread; exists && j < k; j += Team::kThreads) {
        const uint32_t id = static_cast<uint32_t>(ids[j]);
        entries[j].value = values[j];
        if (id >= static_cast<uint32_t>(E)) continue;
        // Not a plain store: the ids are the caller's, and two that are equal must not race.
        atomicMin(&entries[id % kPerThread * Team::kThreads + id / kPerThread].slot, static_cast<uint32_t>(j));
    }
    team.sync();
    // A thread sets only entries anew that it has read itself, and values behind the next call's first barrier.
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        slot[i] = static_cast<int>(entries[i * Team::kThreads + thread].slot);
        value[i] = slot[i] < 0 ? 0.0f : entries[slot[i]].value;
    }
}

namespace gate_detail {

// sigmoid(x) (1 - sigmoid(x)) without cancellation.
__device__ __forceinline__ float sigmoid_slope(float x) {
    const float decay = expf(-fabsf(x));
    return decay / ((1 + decay) * (1 + decay));
}

}  // namespace gate_detail

// The gradient to the logits of a thread's elements; 0 from E on. slot[i] is what forward returned (with `rule.all` the
// element's index, -1 from E on), dweight[i] the gradient to the weight in that slot, `dlse` the gradient to the
// log-sum-exp, which counts when `has_dlse`.
template <int kPerThread, class Team>
__device__ __forceinline__ void gate_row_backward(const Team& team, const GateRule& rule,
                                                  const float (&logits)[kPerThread], const float (&bias)[kPerThread],
                                                  const int (&slot)[kPerThread], const float (&dweight)[kPerThread],
                                                  bool has_dlse, float dlse, float (&gradient)[kPerThread]) {
    using namespace gate_detail;
    float z[kPerThread];
    const float largest = clean(team, rule.E, logits, z);
    const bool is_dead = largest == -kInfinity;

    const bool selected_softmax = rule.is_selected_softmax();
    const bool is_dense = rule.score == MOEK_GATE_SCORE_SOFTMAX && !selected_softmax;
    float p[kPerThread] = {};
    if (is_dense || has_dlse) softmax(team, rule, z, largest, p);
    const uint32_t live = live_elements(z, bias, slot);
    float values[kPerThread];
    selected_values(team, rule, z, bias, live, largest, p, values);

    // Through the normalisation: ds = total / D (g - sum_m g_m v_m / D) with D = sum v + eps; for the softmax over the
    // selected, whose v are unnormalised exponentials, dz = total v / D (g - ...) at once.
    float scale = rule.weight_scale;
    float mean = 0;
    float denominator = 1;
    if (rule.normalize != MOEK_GATE_NORMALIZE_NONE) {
        denominator = sum_of(team, values) + rule.eps;
        // Zero weights, or infinite values that share the weight: nothing depends on the scores.
        const bool is_constant = denominator == 0 || !(fabsf(denominator) < kInfinity);
        scale = is_constant ? 0.0f : scale * rule.normalized_total();
        denominator = is_constant ? 1.0f : denominator;
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            // A masked expert's dweight may be anything, also NaN.
            mean += is_live(live, i) ? dweight[i] * (values[i] / denominator) : 0.0f;
        }
        mean = team.sum(mean);
    }
    // ds, or dz with the softmax over the selected.
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        const float share = selected_softmax ? values[i] / denominator : 1 / denominator;
        const bool has_gradient = scale != 0 && is_live(live, i);
        values[i] = has_gradient ? scale * share * (dweight[i] - mean) : 0.0f;
    }

    // Through the score.
    if (is_dense) {
        float inner = 0;
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) inner += p[i] * values[i];
        const float shift = (has_dlse ? dlse : 0.0f) - team.sum(inner);
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            gradient[i] = is_dead ? 0.0f : p[i] * (values[i] + shift) * rule.inverse_temperature;
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        float slope = 1;
        if (rule.score == MOEK_GATE_SCORE_SIGMOID) slope = sigmoid_slope(z[i] * rule.inverse_temperature);
        const float from_lse = has_dlse ? p[i] * dlse : 0.0f;
        gradient[i] = is_dead ? 0.0f : (from_lse + values[i] * slope) * rule.inverse_temperature;
    }
}

}  // namespace moek::cuda
