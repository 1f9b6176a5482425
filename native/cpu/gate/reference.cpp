#include "cpu/gate/reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace moek::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
using Row = std::vector<double>;

Row logits_of(const Gate& call, int64_t t) {
    Row z(call.logits.begin() + t * call.E, call.logits.begin() + (t + 1) * call.E);
    for (double& value : z) {
        if (std::isnan(value)) value = -kInfinity;
    }
    return z;
}

bool is_dead(const Row& z) {
    return std::all_of(z.begin(), z.end(), [](double value) { return value == -kInfinity; });
}

// softmax(z / temperature); infinite logits share everything.
Row softmax(const Gate& call, const Row& z) {
    const double largest = *std::max_element(z.begin(), z.end());
    Row p(z.size());
    for (size_t e = 0; e < z.size(); ++e) {
        p[e] = largest == kInfinity ? (z[e] == kInfinity ? 1.0 : 0.0) : std::exp((z[e] - largest) / call.temperature);
    }
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& value : p) value /= sum;
    return p;
}

double log_sum_exp(const Gate& call, const Row& z) {
    const double largest = *std::max_element(z.begin(), z.end());
    if (std::isinf(largest)) return largest;
    double sum = 0;
    for (double value : z) sum += std::exp((value - largest) / call.temperature);
    return largest / call.temperature + std::log(sum);
}

Row scores(const Gate& call, const Row& z) {
    if (call.score == MOEK_GATE_SCORE_SOFTMAX) return softmax(call, z);
    Row s = z;
    for (double& value : s) {
        value /= call.temperature;
        if (call.score == MOEK_GATE_SCORE_SIGMOID) value = 1 / (1 + std::exp(-value));
    }
    return s;
}

bool is_masked(const Gate& call, const Row& z, size_t e) {
    return z[e] == -kInfinity || (!call.bias.empty() && !(call.bias[e] > -kInfinity));
}

// What experts are ranked by. Scores grow with the logit, so without a bias the logit ranks them the same, and goes on
// doing so where scores underflow or saturate.
Row selection_scores(const Gate& call, const Row& z) {
    Row c = call.bias.empty() ? z : scores(call, z);
    for (size_t e = 0; e < c.size(); ++e) {
        if (!call.bias.empty()) c[e] += call.bias[e];
        if (is_masked(call, z, e)) c[e] = -kInfinity;
    }
    return c;
}

std::vector<int32_t> ranking(const Gate& call, const Row& z) {
    std::vector<int32_t> order(static_cast<size_t>(call.E));
    std::iota(order.begin(), order.end(), 0);
    if (call.select == MOEK_GATE_SELECT_ALL) return order;
    const Row c = selection_scores(call, z);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return c[static_cast<size_t>(a)] > c[static_cast<size_t>(b)]; });
    return order;
}

// v: the selected scores that become weights, 0 for masked experts.
Row selected_values(const Gate& call, const Row& z, const int32_t* ids) {
    const Row s = scores(call, z);
    Row v(static_cast<size_t>(call.k));
    for (size_t j = 0; j < v.size(); ++j) {
        const size_t e = static_cast<size_t>(ids[j]);
        v[j] = s[e];
        if (call.bias_mode == MOEK_BIAS_MODE_WEIGHT) v[j] += call.bias[e];
        if (is_masked(call, z, e)) v[j] = 0;
    }
    return v;
}

double normalize_total(const Gate& call) {
    return call.normalize == MOEK_GATE_NORMALIZE_SUM_TO_K ? static_cast<double>(call.k) : 1.0;
}

Row weights_of(const Gate& call, const Row& v) {
    Row w = v;
    const bool any_infinite = std::any_of(v.begin(), v.end(), [](double value) { return std::isinf(value); });
    if (call.normalize != MOEK_GATE_NORMALIZE_NONE) {
        if (any_infinite) {
            for (double& value : w) value = std::isinf(value) ? 1 : 0;
        }
        const double sum = std::accumulate(w.begin(), w.end(), 0.0) + (any_infinite ? 0.0 : call.eps);
        for (double& value : w) value = sum == 0 ? 0 : normalize_total(call) * value / sum;
    }
    for (double& value : w) value *= call.weight_scale;
    return w;
}

}  // namespace

GateOutput gate_forward(const Gate& call) {
    GateOutput out;
    out.counts.assign(static_cast<size_t>(call.E), 0);
    for (int64_t t = 0; t < call.T; ++t) {
        const Row z = logits_of(call, t);
        std::vector<int32_t> ids = ranking(call, z);
        ids.resize(static_cast<size_t>(call.k));
        const bool dead = is_dead(z);
        const Row w = dead ? Row(ids.size(), 0.0) : weights_of(call, selected_values(call, z, ids.data()));
        out.ids.insert(out.ids.end(), ids.begin(), ids.end());
        out.weights.insert(out.weights.end(), w.begin(), w.end());
        out.lse.push_back(dead ? -kInfinity : log_sum_exp(call, z));
        for (int32_t id : ids) ++out.counts[static_cast<size_t>(id)];
    }
    return out;
}

std::vector<double> gate_backward(const Gate& call, const GateOutput& saved, const std::vector<double>& dweights,
                                  const std::vector<double>& dlse) {
    const size_t E = static_cast<size_t>(call.E);
    const size_t k = static_cast<size_t>(call.k);
    std::vector<double> dlogits(static_cast<size_t>(call.T) * E, 0.0);
    for (size_t t = 0; t < static_cast<size_t>(call.T); ++t) {
        const Row z = logits_of(call, static_cast<int64_t>(t));
        if (is_dead(z)) continue;
        const int32_t* ids = saved.ids.data() + t * k;
        const double* dw = dweights.data() + t * k;
        const Row p = softmax(call, z);
        const Row v = selected_values(call, z, ids);

        // dv_m = sum_j dw_j dw_j/dv_m
        Row dv(k, 0.0);
        const double sum = std::accumulate(v.begin(), v.end(), 0.0) + call.eps;
        for (size_t m = 0; m < k; ++m) {
            if (is_masked(call, z, static_cast<size_t>(ids[m]))) continue;
            if (call.normalize == MOEK_GATE_NORMALIZE_NONE) {
                dv[m] = call.weight_scale * dw[m];
            } else if (sum != 0 && std::isfinite(sum)) {
                for (size_t j = 0; j < k; ++j) {
                    if (is_masked(call, z, static_cast<size_t>(ids[j]))) continue;
                    const double slope = (j == m ? 1 / sum : 0.0) - v[j] / (sum * sum);
                    dv[m] += call.weight_scale * normalize_total(call) * dw[j] * slope;
                }
            }
        }

        // dz_e = sum_m dv_m ds_m/dz_e, and lse's own slope, which is p / temperature
        double* dz = dlogits.data() + t * E;
        for (size_t e = 0; e < E; ++e) {
            if (z[e] == -kInfinity) continue;
            for (size_t m = 0; m < k; ++m) {
                const size_t id = static_cast<size_t>(ids[m]);
                double slope = 0;
                if (call.score == MOEK_GATE_SCORE_SOFTMAX) {
                    slope = p[id] * ((e == id ? 1 : 0) - p[e]);
                } else if (e == id && call.score == MOEK_GATE_SCORE_SIGMOID) {
                    const double s = 1 / (1 + std::exp(-z[e] / call.temperature));
                    slope = s * (1 - s);
                } else if (e == id) {
                    slope = 1;
                }
                if (dv[m] != 0) dz[e] += dv[m] * slope / call.temperature;
            }
            if (!dlse.empty()) dz[e] += dlse[t] * p[e] / call.temperature;
        }
    }
    return dlogits;
}

double gate_selection_margin(const Gate& call) {
    double margin = kInfinity;
    if (call.select == MOEK_GATE_SELECT_ALL) return margin;
    for (int64_t t = 0; t < call.T; ++t) {
        const Row z = logits_of(call, t);
        const Row c = selection_scores(call, z);
        const std::vector<int32_t> order = ranking(call, z);
        for (size_t j = 0; j < static_cast<size_t>(call.k) && j + 1 < order.size(); ++j) {
            margin = std::min(margin, c[static_cast<size_t>(order[j])] - c[static_cast<size_t>(order[j + 1])]);
        }
    }
    return margin;
}

}  // namespace moek::reference
