// The gate on one row, forward and backward: the maths of moek_gate_args, shared by the op `gate` and by the routers
// that other ops fuse. For files compiled per instruction set.
//
// An expert is *masked* when its logit is NaN or -infinity, or its bias is: it is selected only when nothing else is
// left, and its weight is the constant 0.
#pragma once

#include "core/dtype.hpp"
#include "cpu/common/vector_math.hpp"
#include "cpu/gate/top_k.hpp"
#include "moekernels.h"

namespace moek::cpu::MOEK_ISA_NAME {

template <class Real>
struct GateRule {
    int64_t E;
    int64_t k;  // E when `all`
    bool all;   // select every expert, in order; ids are not used
    int32_t score;
    int32_t bias_mode;
    int32_t normalize;
    Real eps;
    Real temperature;
    Real weight_scale;
    const Real* bias;  // [E]; null with MOEK_BIAS_MODE_NONE
};

template <class Real>
static inline GateRule<Real> rule_of(const moek_gate_args& args) {
    GateRule<Real> rule;
    rule.E = args.E;
    rule.k = args.k;
    rule.all = args.select == MOEK_GATE_SELECT_ALL;
    rule.score = args.score;
    rule.bias_mode = args.bias_mode;
    rule.normalize = args.normalize;
    rule.eps = static_cast<Real>(args.eps);
    rule.temperature = static_cast<Real>(args.temperature);
    rule.weight_scale = static_cast<Real>(args.weight_scale);
    rule.bias = static_cast<const Real*>(args.bias);
    return rule;
}

// Elements of scratch memory that both functions below need.
static constexpr int64_t gate_row_scratch(int64_t E) {
    return 4 * E;
}

namespace gate_detail {

// Copies the logits with NaN replaced by -infinity and returns the largest.
template <class Real>
static inline Real clean(const Real* logits, int64_t E, Real* z) {
    map_lanes(logits, z, E, [](Real value) { return value > -kInfinity<Real> ? value : -kInfinity<Real>; });
    return largest_of(z, E);
}

// out = exp((z - shift) / temperature). With an infinite shift the mass is split evenly over the infinite logits.
template <class Real>
static inline void shifted_exponentials(const GateRule<Real>& rule, const Real* z, int64_t count, Real shift,
                                        Real* out) {
    if (shift == kInfinity<Real>) {
        map_lanes(z, out, count, [](Real value) { return value == kInfinity<Real> ? Real{1} : Real{0}; });
    } else {
        const Real inverse_temperature = 1 / rule.temperature;
        map_lanes(z, out, count, [=](Real value) { return exponential((value - shift) * inverse_temperature); });
    }
}

template <class Real>
static inline Real sigmoid(Real x) {
    return 1 / (1 + exponential(-x));
}

// sigmoid(x) (1 - sigmoid(x)) without cancellation.
template <class Real>
static inline Real sigmoid_slope(Real x) {
    const Real decay = exponential(x < 0 ? x : -x);
    return decay / ((1 + decay) * (1 + decay));
}

// Weights whose quotients do not depend on how the row's softmax is scaled: a softmax over the selected logits alone.
// It stays exact where the selected probabilities underflow.
template <class Real>
static inline bool is_selected_softmax(const GateRule<Real>& rule) {
    return rule.score == MOEK_GATE_SCORE_SOFTMAX && rule.bias_mode != MOEK_BIAS_MODE_WEIGHT &&
           rule.normalize != MOEK_GATE_NORMALIZE_NONE && rule.eps == 0;
}

// Sigmoid or identity scores.
template <class Real>
static inline void pointwise_scores(const GateRule<Real>& rule, const Real* z, int64_t count, Real* out) {
    const Real inverse_temperature = 1 / rule.temperature;
    if (rule.score == MOEK_GATE_SCORE_SIGMOID) {
        map_lanes(z, out, count, [=](Real value) { return sigmoid(value * inverse_temperature); });
    } else {
        map_lanes(z, out, count, [=](Real value) { return value * inverse_temperature; });
    }
}

// The softmax over the whole row; returns the sum of the shifted exponentials.
template <class Real>
static inline Real softmax(const GateRule<Real>& rule, const Real* z, Real largest, Real* p) {
    shifted_exponentials(rule, z, rule.E, largest, p);
    const Real sum = sum_of(p, rule.E);
    map_lanes(p, p, rule.E, [=](Real value) { return value / sum; });
    return sum;
}

// What the experts are selected by, where that is not the logits: score plus bias, -infinity for masked experts.
template <class Real>
static inline void biased_keys(const GateRule<Real>& rule, const Real* z, const Real* p, Real* keys) {
    const Real* bias = rule.bias;
    const Real* score = p;
    if (rule.score != MOEK_GATE_SCORE_SOFTMAX) {
        pointwise_scores(rule, z, rule.E, keys);
        score = keys;
    }
    for (int64_t e = 0; e < rule.E; ++e) {
        const bool is_masked = !(z[e] > -kInfinity<Real>) | !(bias[e] > -kInfinity<Real>);
        keys[e] = is_masked ? -kInfinity<Real> : score[e] + bias[e];
    }
}

// The logits of the selected experts, -infinity for masked ones. `ids` null: all experts.
template <class Real>
static inline void selected_logits(const GateRule<Real>& rule, const Real* z, const int32_t* ids, Real* out) {
    for (int64_t j = 0; j < rule.k; ++j) out[j] = z[ids == nullptr ? j : ids[j]];
    if (rule.bias == nullptr) return;
    for (int64_t j = 0; j < rule.k; ++j) {
        const Real bias = rule.bias[ids == nullptr ? j : ids[j]];
        out[j] = bias > -kInfinity<Real> ? out[j] : -kInfinity<Real>;
    }
}

// What weights are made of, before normalisation: 0 for masked experts. `chosen` are the selected logits; p is read
// where the weights are probabilities of the whole row.
template <class Real>
static inline void selected_values(const GateRule<Real>& rule, const Real* chosen, const int32_t* ids, Real largest,
                                   const Real* p, Real* values) {
    const int64_t k = rule.k;
    if (is_selected_softmax(rule)) {
        const Real shift = largest_of(chosen, k);
        // Nothing unmasked, or all the mass sits on infinite logits that were not selected.
        if (shift == -kInfinity<Real> || (largest == kInfinity<Real> && shift < largest)) {
            for (int64_t j = 0; j < k; ++j) values[j] = 0;
        } else {
            shifted_exponentials(rule, chosen, k, shift, values);
        }
        return;
    }
    if (rule.score == MOEK_GATE_SCORE_SOFTMAX) {
        for (int64_t j = 0; j < k; ++j) values[j] = p[ids == nullptr ? j : ids[j]];
    } else {
        pointwise_scores(rule, chosen, k, values);
    }
    if (rule.bias_mode == MOEK_BIAS_MODE_WEIGHT) {
        for (int64_t j = 0; j < k; ++j) values[j] += rule.bias[ids == nullptr ? j : ids[j]];
    }
    for (int64_t j = 0; j < k; ++j) values[j] = chosen[j] > -kInfinity<Real> ? values[j] : Real{0};
}

template <class Real>
static inline Real normalize_total(const GateRule<Real>& rule) {
    return rule.normalize == MOEK_GATE_NORMALIZE_SUM_TO_K ? static_cast<Real>(rule.k) : Real{1};
}

// Turns values into weights, in place.
template <class Real>
static inline void normalize_values(const GateRule<Real>& rule, Real* values) {
    const int64_t k = rule.k;
    const Real scale = rule.weight_scale;
    if (rule.normalize == MOEK_GATE_NORMALIZE_NONE) {
        map_lanes(values, values, k, [=](Real value) { return scale * value; });
        return;
    }
    Real denominator = sum_of(values, k) + rule.eps;
    if (denominator == kInfinity<Real> || denominator == -kInfinity<Real>) {
        // Infinite values share the whole weight; finite ones whose sum overflows are scaled down first.
        Real largest = 0;
        for (int64_t j = 0; j < k; ++j) {
            const Real magnitude = values[j] < 0 ? -values[j] : values[j];
            largest = magnitude > largest ? magnitude : largest;
        }
        for (int64_t j = 0; j < k; ++j) {
            values[j] = largest == kInfinity<Real> ? (values[j] == largest ? Real{1} : Real{0}) : values[j] / largest;
        }
        denominator = sum_of(values, k);
    }
    const Real factor = denominator == 0 ? Real{0} : normalize_total(rule) * scale;
    const Real divisor = denominator == 0 ? Real{1} : denominator;
    // The quotient first: a single value divided by itself is exactly 1.
    map_lanes(values, values, k, [=](Real value) { return factor * (value / divisor); });
}

template <class Real>
static inline void row_forward(const GateRule<Real>& rule, const Real* logits, Real* scratch, int32_t* ids,
                               Real* weights, Real* lse) {
    const int64_t E = rule.E;
    const int64_t k = rule.k;
    Real* z = scratch;
    Real* keys = scratch + E;
    Real* chosen = scratch + 2 * E;
    Real* p = scratch + 3 * E;
    const Real largest = clean(logits, E, z);
    if (largest == -kInfinity<Real>) {
        for (int64_t j = 0; j < k; ++j) {
            if (ids != nullptr) ids[j] = static_cast<int32_t>(j);
            weights[j] = 0;
        }
        if (lse != nullptr) *lse = -kInfinity<Real>;
        return;
    }

    const bool is_softmax = rule.score == MOEK_GATE_SCORE_SOFTMAX;
    const bool has_keys = rule.bias != nullptr && ids != nullptr;
    if (lse != nullptr || (is_softmax && (has_keys || !is_selected_softmax(rule)))) {
        const Real sum = softmax(rule, z, largest, p);
        if (lse != nullptr) *lse = largest == kInfinity<Real> ? largest : largest / rule.temperature + logarithm(sum);
    }
    // Without a bias the logits themselves order the experts, also where scores underflow or saturate.
    if (has_keys) biased_keys(rule, z, p, keys);
    if (ids != nullptr) top_k(has_keys ? keys : z, E, k, ids);
    selected_logits(rule, z, ids, chosen);
    selected_values(rule, chosen, ids, largest, p, weights);
    normalize_values(rule, weights);
}

template <class Real>
static inline void row_backward(const GateRule<Real>& rule, const Real* logits, const int32_t* ids,
                                const Real* dweights, const Real* dlse, Real* scratch, Real* dlogits) {
    const auto expert = [=](int64_t j) { return ids == nullptr ? j : static_cast<int64_t>(ids[j]); };
    const int64_t E = rule.E;
    const int64_t k = rule.k;
    Real* z = scratch;
    Real* p = scratch + E;
    Real* chosen = scratch + 2 * E;
    Real* values = scratch + 3 * E;
    const Real largest = clean(logits, E, z);
    if (largest == -kInfinity<Real>) {
        for (int64_t e = 0; e < E; ++e) dlogits[e] = 0;
        return;
    }

    const bool selected_softmax = is_selected_softmax(rule);
    const bool dense = rule.score == MOEK_GATE_SCORE_SOFTMAX && !selected_softmax;
    if (dense || dlse != nullptr) softmax(rule, z, largest, p);
    selected_logits(rule, z, ids, chosen);
    selected_values(rule, chosen, ids, largest, p, values);

    // Through the normalisation: ds_j = total / D (g_j - sum_m g_m v_m / D) with D = sum v + eps; for the softmax over
    // the selected, whose v are unnormalised exponentials, dz_j = total v_j / D (g_j - ...) at once.
    Real scale = rule.weight_scale;
    Real mean = 0;
    Real denominator = 1;
    if (rule.normalize != MOEK_GATE_NORMALIZE_NONE) {
        denominator = sum_of(values, k) + rule.eps;
        // Zero weights, or infinite values that share the weight: nothing depends on the scores.
        const bool is_constant = denominator == 0 || denominator - denominator != 0;
        scale = is_constant ? Real{0} : scale * normalize_total(rule);
        denominator = is_constant ? Real{1} : denominator;
        for (int64_t j = 0; j < k && !is_constant; ++j) {
            // A masked expert's dweight may be anything, also NaN.
            const Real term = dweights[j] * (values[j] / denominator);
            mean += chosen[j] > -kInfinity<Real> ? term : Real{0};
        }
    }
    // ds_j, or dz_j with the softmax over the selected.
    for (int64_t j = 0; j < k; ++j) {
        const Real share = selected_softmax ? values[j] / denominator : 1 / denominator;
        const bool has_gradient = scale != 0 && chosen[j] > -kInfinity<Real>;
        values[j] = has_gradient ? scale * share * (dweights[j] - mean) : Real{0};
    }

    // Through the score.
    const Real inverse_temperature = 1 / rule.temperature;
    if (dense) {
        Real shift = dlse == nullptr ? Real{0} : *dlse;
        for (int64_t j = 0; j < k; ++j) shift -= p[expert(j)] * values[j];
        map_lanes(p, dlogits, E, [=](Real value) { return value * shift * inverse_temperature; });
        for (int64_t j = 0; j < k; ++j) {
            const int64_t e = expert(j);
            dlogits[e] = p[e] * (values[j] + shift) * inverse_temperature;
        }
        return;
    }
    if (dlse == nullptr) {
        for (int64_t e = 0; e < E; ++e) dlogits[e] = 0;
    } else {
        const Real slope = *dlse * inverse_temperature;
        map_lanes(p, dlogits, E, [=](Real value) { return value * slope; });
    }
    if (rule.score == MOEK_GATE_SCORE_SIGMOID) {
        map_lanes(chosen, chosen, k, [=](Real value) { return sigmoid_slope(value * inverse_temperature); });
    } else {
        for (int64_t j = 0; j < k; ++j) chosen[j] = 1;
    }
    for (int64_t j = 0; j < k; ++j) dlogits[expert(j)] += values[j] * chosen[j] * inverse_temperature;
}

}  // namespace gate_detail

// logits [E] to ids [k] (untouched with `all`), weights [k] and, unless null, the log-sum-exp. scratch holds
// gate_row_scratch(E) elements.
template <class Real>
static inline void gate_row_forward(const GateRule<Real>& rule, const Real* logits, Real* scratch, int32_t* ids,
                                    Real* weights, Real* lse) {
    gate_detail::row_forward(rule, logits, scratch, rule.all ? nullptr : ids, weights, lse);
}

// The gradient to the logits [E], overwritten. `ids` are what forward returned (not read with `all`), `dlse` may be
// null. dlogits must not be logits.
template <class Real>
static inline void gate_row_backward(const GateRule<Real>& rule, const Real* logits, const int32_t* ids,
                                     const Real* dweights, const Real* dlse, Real* scratch, Real* dlogits) {
    gate_detail::row_backward(rule, logits, rule.all ? nullptr : ids, dweights, dlse, scratch, dlogits);
}

}  // namespace moek::cpu::MOEK_ISA_NAME
