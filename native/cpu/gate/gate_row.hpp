// The gate on one row, forward and backward: the maths of moek_gate_args, shared by the op `gate` and by the routers
// that other ops fuse. For files compiled per instruction set.
//
// An expert is *masked* when its logit is NaN or -infinity, or its bias is: it is selected only when nothing else is
// left, its weight is 0 and it gets no gradient.
#pragma once

#include "core/dtype.hpp"
#include "cpu/common/vector_math.hpp"
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

// Elements of scratch memory that both functions below need.
static constexpr int64_t gate_row_scratch(int64_t E) {
    return 3 * E;
}

namespace gate_detail {

template <class Real>
static constexpr Real kInfinity = static_cast<Real>(HUGE_VAL);

template <class Real>
static inline bool is_masked(const GateRule<Real>& rule, const Real* z, int64_t e) {
    return !(z[e] > -kInfinity<Real>) || (rule.bias != nullptr && !(rule.bias[e] > -kInfinity<Real>));
}

// Copies the logits with NaN replaced by -infinity and returns the largest.
template <class Real>
static inline Real clean(const Real* logits, int64_t E, Real* z) {
    Real largest = -kInfinity<Real>;
    for (int64_t e = 0; e < E; ++e) {
        z[e] = logits[e] > -kInfinity<Real> ? logits[e] : -kInfinity<Real>;
        largest = z[e] > largest ? z[e] : largest;
    }
    return largest;
}

// exp((z - shift) / temperature). With an infinite shift the mass is split evenly over the infinite logits.
template <class Real>
static inline Real shifted_exponential(Real z, Real shift, Real temperature) {
    if (shift == kInfinity<Real>) return z == shift ? Real{1} : Real{0};
    return exponential((z - shift) / temperature);
}

// The same for a whole row; returns the sum.
template <class Real>
static inline Real shifted_exponentials(const GateRule<Real>& rule, const Real* z, Real shift, Real* out) {
    // Fixed partial sums: the order does not depend on the vector width that the compiler picks.
    constexpr int64_t kLanes = 16;
    Real partial[kLanes] = {};
    if (shift == kInfinity<Real>) {
        for (int64_t e = 0; e < rule.E; ++e) out[e] = z[e] == shift ? Real{1} : Real{0};
    } else {
        for (int64_t e = 0; e < rule.E; ++e) out[e] = exponential((z[e] - shift) / rule.temperature);
    }
    int64_t e = 0;
    for (; e + kLanes <= rule.E; e += kLanes) {
        for (int64_t lane = 0; lane < kLanes; ++lane) partial[lane] += out[e + lane];
    }
    for (; e < rule.E; ++e) partial[e % kLanes] += out[e];
    Real sum = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) sum += partial[lane];
    return sum;
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

// The k largest keys, best first; equal keys in the order of their ids. Keys are not NaN.
template <class Real>
static inline void insert_top_k(const Real* keys, int64_t E, int64_t k, Real* best, int32_t* ids) {
    int64_t count = 0;
    int64_t e = 0;
    const auto insert = [&](Real key, int64_t id, int64_t last) {
        int64_t place = last;
        for (; place > 0 && best[place - 1] < key; --place) {
            best[place] = best[place - 1];
            ids[place] = ids[place - 1];
        }
        best[place] = key;
        ids[place] = static_cast<int32_t>(id);
    };
    for (; count < k; ++count, ++e) insert(keys[e], e, count);
    // Most keys lose: look at eight at once.
    constexpr int64_t kGroup = 8;
    for (; e + kGroup <= E; e += kGroup) {
        bool any = false;
        for (int64_t i = 0; i < kGroup; ++i) any |= keys[e + i] > best[k - 1];
        if (!any) continue;
        for (int64_t i = 0; i < kGroup; ++i) {
            if (keys[e + i] > best[k - 1]) insert(keys[e + i], e + i, k - 1);
        }
    }
    for (; e < E; ++e) {
        if (keys[e] > best[k - 1]) insert(keys[e], e, k - 1);
    }
}

// The same for a large k: a heap of the k best so far with the worst on top, then sorted in place.
template <class Real>
static inline void heap_top_k(const Real* keys, int64_t E, int64_t k, int32_t* ids) {
    const auto worse = [&](int32_t a, int32_t b) { return keys[a] < keys[b] || (keys[a] == keys[b] && a > b); };
    const auto sift_down = [&](int64_t place, int64_t count) {
        const int32_t moving = ids[place];
        for (int64_t child; (child = 2 * place + 1) < count; place = child) {
            if (child + 1 < count && worse(ids[child + 1], ids[child])) ++child;
            if (!worse(ids[child], moving)) break;
            ids[place] = ids[child];
        }
        ids[place] = moving;
    };
    for (int64_t j = 0; j < k; ++j) ids[j] = static_cast<int32_t>(j);
    for (int64_t place = k / 2; place-- > 0;) sift_down(place, k);
    for (int64_t e = k; e < E; ++e) {
        // An equal key with a higher id is worse, so `>` is enough.
        if (keys[e] > keys[ids[0]]) {
            ids[0] = static_cast<int32_t>(e);
            sift_down(0, k);
        }
    }
    for (int64_t count = k; count-- > 1;) {
        const int32_t worst = ids[0];
        ids[0] = ids[count];
        ids[count] = worst;
        sift_down(0, count);
    }
}

// Above this the insertion list moves more than the heap.
constexpr int64_t kLargestInsertionList = 32;

// Scores plus bias, -infinity for masked experts. `exponentials` and `sum` are used with softmax; `keys` may be the
// same array.
template <class Real>
static inline void biased_keys(const GateRule<Real>& rule, const Real* z, const Real* exponentials, Real sum,
                               Real* keys) {
    for (int64_t e = 0; e < rule.E; ++e) {
        Real score;
        if (rule.score == MOEK_GATE_SCORE_SOFTMAX) {
            score = exponentials[e] / sum;
        } else if (rule.score == MOEK_GATE_SCORE_SIGMOID) {
            score = sigmoid(z[e] / rule.temperature);
        } else {
            score = z[e] / rule.temperature;
        }
        keys[e] = is_masked(rule, z, e) ? -kInfinity<Real> : score + rule.bias[e];
    }
}

// What weights are made of, before normalisation. `largest` and `sum` belong to the whole row.
template <bool kAll, class Real>
static inline void selected_values(const GateRule<Real>& rule, const Real* z, const int32_t* ids, Real largest,
                                   Real sum, Real* values) {
    const auto expert = [&](int64_t j) { return kAll ? j : static_cast<int64_t>(ids[j]); };
    const Real bias_weight = rule.bias_mode == MOEK_BIAS_MODE_WEIGHT ? Real{1} : Real{0};
    if (is_selected_softmax(rule)) {
        Real shift = -kInfinity<Real>;
        for (int64_t j = 0; j < rule.k; ++j) {
            const int64_t e = expert(j);
            if (!is_masked(rule, z, e) && z[e] > shift) shift = z[e];
        }
        // Nothing unmasked, or all the mass sits on infinite logits that were not selected.
        const bool nothing = shift == -kInfinity<Real> || (largest == kInfinity<Real> && shift < largest);
        for (int64_t j = 0; j < rule.k; ++j) {
            const int64_t e = expert(j);
            values[j] = nothing || is_masked(rule, z, e) ? Real{0} : shifted_exponential(z[e], shift, rule.temperature);
        }
        return;
    }
    for (int64_t j = 0; j < rule.k; ++j) {
        const int64_t e = expert(j);
        Real score;
        if (rule.score == MOEK_GATE_SCORE_SOFTMAX) {
            score = shifted_exponential(z[e], largest, rule.temperature) / sum;
        } else if (rule.score == MOEK_GATE_SCORE_SIGMOID) {
            score = sigmoid(z[e] / rule.temperature);
        } else {
            score = z[e] / rule.temperature;
        }
        if (bias_weight != 0) score += rule.bias[e];
        values[j] = is_masked(rule, z, e) ? Real{0} : score;
    }
}

template <class Real>
static inline Real normalize_factor(const GateRule<Real>& rule) {
    return rule.normalize == MOEK_GATE_NORMALIZE_SUM_TO_K ? static_cast<Real>(rule.k) : Real{1};
}

template <class Real>
static inline Real sum_of(const Real* values, int64_t count) {
    Real sum = 0;
    for (int64_t j = 0; j < count; ++j) sum += values[j];
    return sum;
}

// Turns values into weights, in place.
template <class Real>
static inline void normalize_values(const GateRule<Real>& rule, Real* values) {
    const int64_t k = rule.k;
    if (rule.normalize == MOEK_GATE_NORMALIZE_NONE) {
        for (int64_t j = 0; j < k; ++j) values[j] *= rule.weight_scale;
        return;
    }
    const Real factor = normalize_factor(rule) * rule.weight_scale;
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
    for (int64_t j = 0; j < k; ++j) values[j] = denominator == 0 ? Real{0} : factor * (values[j] / denominator);
}

template <bool kAll, class Real>
static inline void row_forward(const GateRule<Real>& rule, const Real* logits, Real* scratch, int32_t* ids,
                               Real* weights, Real* lse) {
    const int64_t E = rule.E;
    Real* z = scratch;
    Real* keys = scratch + E;
    const Real largest = clean(logits, E, z);
    if (largest == -kInfinity<Real>) {
        for (int64_t j = 0; j < rule.k; ++j) {
            if (!kAll) ids[j] = static_cast<int32_t>(j);
            weights[j] = 0;
        }
        if (lse != nullptr) *lse = -kInfinity<Real>;
        return;
    }

    const bool is_softmax = rule.score == MOEK_GATE_SCORE_SOFTMAX;
    const bool keys_need_softmax = is_softmax && rule.bias != nullptr && !kAll;
    Real sum = 0;
    if (lse != nullptr || keys_need_softmax || (is_softmax && !is_selected_softmax(rule))) {
        sum = shifted_exponentials(rule, z, largest, keys);
    }
    if (lse != nullptr) {
        *lse = largest == kInfinity<Real> ? largest : largest / rule.temperature + logarithm(sum);
    }
    if (!kAll) {
        // Without a bias the logits themselves order the experts, also where scores underflow or saturate.
        const Real* order = z;
        if (rule.bias != nullptr) {
            biased_keys(rule, z, keys, sum, keys);
            order = keys;
        }
        if (rule.k <= kLargestInsertionList) {
            Real best[kLargestInsertionList];
            insert_top_k(order, E, rule.k, best, ids);
        } else {
            heap_top_k(order, E, rule.k, ids);
        }
    }
    selected_values<kAll>(rule, z, ids, largest, sum, weights);
    normalize_values(rule, weights);
}

template <bool kAll, class Real>
static inline void row_backward(const GateRule<Real>& rule, const Real* logits, const int32_t* ids,
                                const Real* dweights, const Real* dlse, Real* scratch, Real* dlogits) {
    const auto expert = [&](int64_t j) { return kAll ? j : static_cast<int64_t>(ids[j]); };
    const int64_t E = rule.E;
    const int64_t k = rule.k;
    Real* z = scratch;
    Real* p = scratch + E;
    Real* values = scratch + 2 * E;
    const Real largest = clean(logits, E, z);
    if (largest == -kInfinity<Real>) {
        for (int64_t e = 0; e < E; ++e) dlogits[e] = 0;
        return;
    }

    const bool is_softmax = rule.score == MOEK_GATE_SCORE_SOFTMAX;
    const bool selected_softmax = is_selected_softmax(rule);
    const bool dense = is_softmax && !selected_softmax;
    Real sum = 0;
    if (dense || dlse != nullptr) {
        sum = shifted_exponentials(rule, z, largest, p);
        for (int64_t e = 0; e < E; ++e) p[e] /= sum;
    }
    selected_values<kAll>(rule, z, ids, largest, sum, values);

    // Through the normalisation: ds_j = factor / D (g_j - sum_m g_m v_m / D) with D = sum v + eps; for the softmax over
    // the selected, whose v are unnormalised exponentials, dz_j = factor v_j / D (g_j - ...) at once.
    Real scale = rule.weight_scale;
    Real mean = 0;
    Real denominator = 1;
    if (rule.normalize != MOEK_GATE_NORMALIZE_NONE) {
        denominator = sum_of(values, k) + rule.eps;
        const bool is_constant =
            denominator == 0 || denominator - denominator != 0;  // zero weights, or infinite values
        scale = is_constant ? Real{0} : scale * normalize_factor(rule);
        denominator = is_constant ? Real{1} : denominator;
        for (int64_t j = 0; j < k && !is_constant; ++j) {
            if (!is_masked(rule, z, expert(j))) mean += dweights[j] * (values[j] / denominator);
        }
    }
    // ds_j, or dz_j with the softmax over the selected.
    for (int64_t j = 0; j < k; ++j) {
        const Real share = selected_softmax ? values[j] / denominator : 1 / denominator;
        const bool skip = scale == 0 || is_masked(rule, z, expert(j));
        values[j] = skip ? Real{0} : scale * share * (dweights[j] - mean);
    }

    // Through the score.
    const Real dlse_value = dlse == nullptr ? Real{0} : *dlse;
    if (dense) {
        Real inner = 0;
        for (int64_t j = 0; j < k; ++j) inner += p[expert(j)] * values[j];
        for (int64_t e = 0; e < E; ++e) dlogits[e] = p[e] * (dlse_value - inner) / rule.temperature;
        for (int64_t j = 0; j < k; ++j) {
            const int64_t e = expert(j);
            dlogits[e] = p[e] * ((values[j] - inner) + dlse_value) / rule.temperature;
        }
        return;
    }
    for (int64_t e = 0; e < E; ++e) dlogits[e] = dlse == nullptr ? Real{0} : p[e] * dlse_value / rule.temperature;
    for (int64_t j = 0; j < k; ++j) {
        const int64_t e = expert(j);
        const Real slope = rule.score == MOEK_GATE_SCORE_SIGMOID ? sigmoid_slope(z[e] / rule.temperature) : Real{1};
        if (values[j] != 0) dlogits[e] += values[j] * slope / rule.temperature;
    }
}

}  // namespace gate_detail

// logits [E] to ids [k] (untouched with `all`), weights [k] and, unless null, the log-sum-exp. scratch holds
// gate_row_scratch(E) elements.
template <class Real>
static inline void gate_row_forward(const GateRule<Real>& rule, const Real* logits, Real* scratch, int32_t* ids,
                                    Real* weights, Real* lse) {
    if (rule.all) {
        gate_detail::row_forward<true>(rule, logits, scratch, ids, weights, lse);
    } else {
        gate_detail::row_forward<false>(rule, logits, scratch, ids, weights, lse);
    }
}

// The gradient to the logits [E], overwritten. `ids` are what forward returned (not read with `all`), `dlse` may be
// null. dlogits must not be logits.
template <class Real>
static inline void gate_row_backward(const GateRule<Real>& rule, const Real* logits, const int32_t* ids,
                                     const Real* dweights, const Real* dlse, Real* scratch, Real* dlogits) {
    if (rule.all) {
        gate_detail::row_backward<true>(rule, logits, ids, dweights, dlse, scratch, dlogits);
    } else {
        gate_detail::row_backward<false>(rule, logits, ids, dweights, dlse, scratch, dlogits);
    }
}

}  // namespace moek::cpu::MOEK_ISA_NAME
