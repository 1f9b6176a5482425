// The gradient of rank_lora's ACTIVATION_SOFTMAX on one row, by element and by team like gate_row_backward.cuh. The other
// ACTIVATION gates are constants: nothing flows through them.
#pragma once

#include <cuda_runtime.h>

#include "cuda/gate/activation_row.cuh"

namespace moek::cuda {

// What reaches the activations of a thread's elements through gates = normalise(softmax(a / (|a| + eps) / temperature));
// 0 from E on, whatever the arguments hold there. `gate` and `dgate` are a selected element's gate, 0 elsewhere, and the
// gradient to it; dgate does not matter where gate is 0.
template <int kPerThread, class Team>
__device__ __forceinline__ void activation_softmax_row_backward(
    const Team& team, const ActivationRule& rule, const float (&a)[kPerThread], const float (&bias)[kPerThread],
    const float (&gate)[kPerThread], const float (&dgate)[kPerThread], float (&da)[kPerThread]) {
    using namespace gate_detail;
    const int first = team.thread() * kPerThread;
    const int E = rule.softmax.E;
    const float inverse_temperature = rule.softmax.inverse_temperature;
    const float norm = norm_of(team, E, a);
    const float divisor = norm + rule.norm_eps;
    // No gate depends on a row without a finite norm, or on one of zeros without eps.
    bool is_constant = divisor == 0 || !(divisor < kInfinity);
    const float safe_divisor = is_constant ? 1.0f : divisor;

    float live[kPerThread];  // a, but 0 where it must not reach a sum
    float p[kPerThread];
    float largest = -kInfinity;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        const bool exists = first + i < E;
        live[i] = exists && !is_constant ? a[i] : 0.0f;
        p[i] = exists ? live[i] / safe_divisor : -kInfinity;
        largest = fmaxf(largest, p[i]);
    }
    largest = team.max(largest);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) p[i] = expf((p[i] - largest) * inverse_temperature);
    const float inverse_mass = 1 / sum_of(team, p);  // the mass is at least 1
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) p[i] *= inverse_mass;

    // v: what is normalised, 0 where the threshold struck. dv = total / sum (dgate - sum_m dgate_m v_m / sum).
    float factor = 1;
    float mean = 0;
    if (rule.normalize != MOEK_GATE_NORMALIZE_NONE) {
        float value[kPerThread];
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            const float weight = rule.softmax.bias_mode == MOEK_BIAS_MODE_WEIGHT ? p[i] + bias[i] : p[i];
            value[i] = first + i < E && gate[i] != 0 ? weight : 0.0f;
        }
        const float sum = sum_of(team, value);
        is_constant = is_constant || sum == 0;
        const float safe_sum = sum == 0 ? 1.0f : sum;
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) value[i] = value[i] == 0 ? 0.0f : dgate[i] * value[i] / safe_sum;
        mean = sum_of(team, value);
        factor = rule.normalized_total() / safe_sum;
    }

    // Through the softmax: ds_i = p_i (dv_i - sum_m p_m dv_m) / temperature; then through the norm:
    // da_i = ds_i / D - a_i (sum_m a_m ds_m) / (D^2 |a|) with D = |a| + eps.
    float ds[kPerThread];
    float terms[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        ds[i] = first + i < E && gate[i] != 0 ? factor * (dgate[i] - mean) : 0.0f;
        terms[i] = p[i] * ds[i];
    }
    const float inner = sum_of(team, terms);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        ds[i] = p[i] * (ds[i] - inner) * inverse_temperature;
        terms[i] = live[i] * ds[i];
    }
    const float projection = sum_of(team, terms);
    // Divided one by one: the product of the divisors leaves the range of a float much sooner.
    const float along = norm == 0 ? 0.0f : projection / safe_divisor / safe_divisor / norm;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
        da[i] = is_constant || first + i >= E ? 0.0f : ds[i] / safe_divisor - live[i] * along;
    }
}

}  // namespace moek::cuda
