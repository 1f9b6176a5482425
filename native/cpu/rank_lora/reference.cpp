#include "cpu/rank_lora/reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moek::reference {
namespace {

using Vector = std::vector<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

size_t at(int64_t row, int64_t columns, int64_t column) {
    return static_cast<size_t>(row * columns + column);
}

Vector zeros(int64_t rows, int64_t columns) {
    return Vector(static_cast<size_t>(rows * columns), 0.0);
}

/// x~ of one token.
Vector dropped_row(const RankLora& call, int64_t t) {
    Vector row(static_cast<size_t>(call.d_in));
    for (int64_t c = 0; c < call.d_in; ++c) {
        const size_t i = at(t, call.d_in, c);
        row[static_cast<size_t>(c)] = call.x[i] * (call.dropout_mask.empty() ? 1.0 : call.dropout_mask[i]);
    }
    return row;
}

/// What the router reads of one token.
Vector router_row(const RankLora& call, int64_t t) {
    if (call.router_input.empty()) return dropped_row(call, t);
    const auto begin = call.router_input.begin() + t * call.d_in;
    return Vector(begin, begin + call.d_in);
}

double dot_row(const Vector& matrix, int64_t row, const Vector& vector) {
    double sum = 0;
    const auto columns = static_cast<int64_t>(vector.size());
    for (int64_t c = 0; c < columns; ++c) sum += matrix[at(row, columns, c)] * vector[static_cast<size_t>(c)];
    return sum;
}

Vector softmax(const Vector& z) {
    const double largest = *std::max_element(z.begin(), z.end());
    Vector s(z.size(), 0.0);
    if (largest == -kInfinity) return s;
    double sum = 0;
    for (size_t e = 0; e < z.size(); ++e) {
        // exp(inf - inf) would be NaN; the limit shares the weight among the infinite scores.
        s[e] = z[e] == largest ? 1.0 : std::exp(z[e] - largest);
        sum += s[e];
    }
    for (double& value : s) value /= sum;
    return s;
}

/// The scores of one row and what is known about them; each of the vectors has one value per rank.
struct Scores {
    Vector value;    // s: the score without bias
    Vector weight;   // what becomes a weight if selected: s, or s + bias
    Vector ranking;  // what the selection looks at
};

double bias_of(const RankLora& call, int64_t rank) {
    return call.bias.empty() ? 0.0 : call.bias[static_cast<size_t>(rank)];
}

/// Applies the rule for NaN and -inf scores: they lose against every other score and weigh nothing.
Scores scores_from(const RankLora& call, const Vector& z, const Vector& value) {
    Scores scores;
    for (int64_t i = 0; i < call.r; ++i) {
        const auto index = static_cast<size_t>(i);
        const bool valid = z[index] != -kInfinity;
        const double biased = value[index] + bias_of(call, i);
        scores.value.push_back(valid ? value[index] : 0.0);
        scores.weight.push_back(!valid ? 0.0 : call.bias_mode == MOEK_BIAS_MODE_WEIGHT ? biased : value[index]);
        scores.ranking.push_back(valid && !std::isnan(biased) ? biased : -kInfinity);
    }
    return scores;
}

/// Scores of the ROUTER from the logits of one row.
Scores router_scores(const RankLora& call, const Vector& logits) {
    Vector z;
    for (int64_t i = 0; i < call.r; ++i) {
        const double logit = logits[static_cast<size_t>(i / call.rank_partition)];
        z.push_back(std::isnan(logit) ? -kInfinity : logit / call.temperature);
    }
    Vector value;
    switch (call.score) {
        case MOEK_GATE_SCORE_SOFTMAX:
            value = softmax(z);
            break;
        case MOEK_GATE_SCORE_SIGMOID:
            for (double v : z) value.push_back(1 / (1 + std::exp(-v)));
            break;
        case MOEK_GATE_SCORE_IDENTITY:
            value = z;
            break;
    }
    return scores_from(call, z, value);
}

double norm_of(const Vector& a) {
    double sum = 0;
    for (double v : a) sum += v * v;
    return std::sqrt(sum);
}

/// Scores of ACTIVATION_SOFTMAX from a = A x~ of one row. A row of zeros has equal scores.
Scores activation_softmax_scores(const RankLora& call, const Vector& a) {
    const double norm = norm_of(a) + call.eps;
    Vector z;
    for (double v : a) {
        const double normalised = norm == 0 ? 0.0 : v / norm;
        z.push_back(std::isnan(normalised) ? -kInfinity : normalised / call.temperature);
    }
    return scores_from(call, z, softmax(z));
}

/// Scores of ACTIVATION_SIGNED and ACTIVATION_ABSOLUTE: every weight is 1.
Scores activation_scores(const RankLora& call, const Vector& a) {
    Scores scores;
    for (int64_t i = 0; i < call.r; ++i) {
        const double biased = a[static_cast<size_t>(i)] + bias_of(call, i);
        const double ranking = call.gate == MOEK_RANK_GATE_ACTIVATION_ABSOLUTE ? std::fabs(biased) : biased;
        const bool valid = !std::isnan(ranking) && ranking != -kInfinity;
        scores.value.push_back(valid ? 1.0 : 0.0);
        scores.weight.push_back(valid ? 1.0 : 0.0);
        scores.ranking.push_back(valid ? ranking : -kInfinity);
    }
    return scores;
}

/// The k best, best first; of equals the lower id.
std::vector<int32_t> select(const Vector& ranking, int64_t k) {
    std::vector<int32_t> ids;
    std::vector<bool> taken(ranking.size(), false);
    for (int64_t j = 0; j < k; ++j) {
        size_t best = ranking.size();
        for (size_t i = 0; i < ranking.size(); ++i) {
            if (!taken[i] && (best == ranking.size() || ranking[i] > ranking[best])) best = i;
        }
        taken[best] = true;
        ids.push_back(static_cast<int32_t>(best));
    }
    return ids;
}

/// The weights of the selected ranks before normalisation; ACTIVATION_SOFTMAX drops those below its threshold.
Vector selected_weights(const RankLora& call, const Scores& scores, const std::vector<int32_t>& ids) {
    Vector v;
    for (int32_t id : ids) {
        const double weight = scores.weight[static_cast<size_t>(id)];
        const bool dropped = call.gate == MOEK_RANK_GATE_ACTIVATION_SOFTMAX && weight < call.threshold;
        v.push_back(dropped ? 0.0 : weight);
    }
    return v;
}

double normalising_sum(const RankLora& call, const Vector& v) {
    // eps is the norm's with ACTIVATION_SOFTMAX.
    double sum = call.gate == MOEK_RANK_GATE_ROUTER ? call.eps : 0.0;
    for (double value : v) sum += value;
    return sum;
}

double normalised_total(const RankLora& call) {
    return call.normalize == MOEK_GATE_NORMALIZE_SUM_TO_K ? static_cast<double>(call.k) : 1.0;
}

Vector normalise(const RankLora& call, const Vector& v) {
    if (call.normalize == MOEK_GATE_NORMALIZE_NONE) return v;
    const double sum = normalising_sum(call, v);
    Vector gates;
    for (double value : v) gates.push_back(sum == 0 ? 0.0 : normalised_total(call) * value / sum);
    return gates;
}

/// Gradient to v of gates = normalise(v).
Vector normalise_backward(const RankLora& call, const Vector& v, const Vector& dgates) {
    if (call.normalize == MOEK_GATE_NORMALIZE_NONE) return dgates;
    const double sum = normalising_sum(call, v);
    if (sum == 0) return Vector(v.size(), 0.0);
    double projection = 0;
    for (size_t j = 0; j < v.size(); ++j) projection += dgates[j] * v[j];
    Vector dv;
    for (double dgate : dgates) dv.push_back(normalised_total(call) / sum * (dgate - projection / sum));
    return dv;
}

bool activation_gate(const RankLora& call) {
    return call.gate == MOEK_RANK_GATE_ACTIVATION_SIGNED || call.gate == MOEK_RANK_GATE_ACTIVATION_ABSOLUTE;
}

/// A x~ of one token, for every rank.
Vector activations(const RankLora& call, const Vector& x) {
    Vector a;
    for (int64_t i = 0; i < call.r; ++i) a.push_back(dot_row(call.A, i, x));
    return a;
}

/// Gradient to the scores of every rank, from the gradient to the gates of one row.
Vector scores_backward(const RankLora& call, const Scores& scores, const int32_t* ids, const double* dgates) {
    const std::vector<int32_t> selected(ids, ids + call.k);
    const Vector v = selected_weights(call, scores, selected);
    const Vector dv = normalise_backward(call, v, Vector(dgates, dgates + call.k));
    Vector ds(static_cast<size_t>(call.r), 0.0);
    for (size_t j = 0; j < selected.size(); ++j) {
        const auto id = static_cast<size_t>(selected[j]);
        const bool weighs = scores.ranking[id] != -kInfinity;
        const bool dropped = call.gate == MOEK_RANK_GATE_ACTIVATION_SOFTMAX && scores.weight[id] < call.threshold;
        if (weighs && !dropped) ds[id] = dv[j];
    }
    return ds;
}

Vector softmax_backward(const RankLora& call, const Vector& s, const Vector& ds) {
    double projection = 0;
    for (size_t i = 0; i < s.size(); ++i) projection += s[i] * ds[i];
    Vector dz;
    for (size_t i = 0; i < s.size(); ++i) dz.push_back(s[i] * (ds[i] - projection) / call.temperature);
    return dz;
}

/// Gradient to the router's logits of one row.
Vector router_backward(const RankLora& call, const Vector& logits, const int32_t* ids, const double* dgates) {
    const Scores scores = router_scores(call, logits);
    const Vector ds = scores_backward(call, scores, ids, dgates);
    Vector dz;
    if (call.score == MOEK_GATE_SCORE_SOFTMAX) {
        dz = softmax_backward(call, scores.value, ds);
    } else {
        for (size_t i = 0; i < ds.size(); ++i) {
            const double s = scores.value[i];
            const double slope = call.score == MOEK_GATE_SCORE_SIGMOID ? s * (1 - s) : 1.0;
            dz.push_back(ds[i] * slope / call.temperature);
        }
    }
    Vector dlogits(logits.size(), 0.0);
    for (int64_t i = 0; i < call.r; ++i) {
        dlogits[static_cast<size_t>(i / call.rank_partition)] += dz[static_cast<size_t>(i)];
    }
    return dlogits;
}

/// Gradient that reaches a through the gates of ACTIVATION_SOFTMAX.
Vector activation_softmax_backward(const RankLora& call, const Vector& a, const int32_t* ids, const double* dgates) {
    const Scores scores = activation_softmax_scores(call, a);
    const Vector dz = softmax_backward(call, scores.value, scores_backward(call, scores, ids, dgates));
    const double norm = norm_of(a);
    const double divisor = norm + call.eps;
    Vector da(a.size(), 0.0);
    if (norm == 0) {
        for (size_t i = 0; i < a.size() && divisor != 0; ++i) da[i] = dz[i] / divisor;
        return da;
    }
    double projection = 0;
    for (size_t i = 0; i < a.size(); ++i) projection += a[i] * dz[i];
    for (size_t i = 0; i < a.size(); ++i) {
        da[i] = dz[i] / divisor - a[i] * projection / (divisor * divisor * norm);
    }
    return da;
}

}  // namespace

RankLoraOutput rank_lora_forward(const RankLora& call) {
    RankLoraOutput out;
    out.y = zeros(call.T, call.d_out);
    out.counts.assign(static_cast<size_t>(call.r), 0);
    for (int64_t t = 0; t < call.T; ++t) {
        const Vector x = dropped_row(call, t);
        const Vector a = activations(call, x);
        std::vector<int32_t> ids;
        Vector gates;
        if (call.gate == MOEK_RANK_GATE_CALLER) {
            ids.assign(call.ids.begin() + t * call.k, call.ids.begin() + (t + 1) * call.k);
            gates.assign(call.gates.begin() + t * call.k, call.gates.begin() + (t + 1) * call.k);
        } else {
            Scores scores;
            if (call.gate == MOEK_RANK_GATE_ROUTER) {
                Vector logits;
                const Vector input = router_row(call, t);
                for (int64_t i = 0; i < call.r / call.rank_partition; ++i) {
                    logits.push_back(dot_row(call.W_r, i, input));
                }
                scores = router_scores(call, logits);
                out.gate_logits.insert(out.gate_logits.end(), logits.begin(), logits.end());
            } else if (call.gate == MOEK_RANK_GATE_ACTIVATION_SOFTMAX) {
                scores = activation_softmax_scores(call, a);
                out.gate_logits.insert(out.gate_logits.end(), a.begin(), a.end());
            } else {
                scores = activation_scores(call, a);
            }
            ids = select(scores.ranking, call.k);
            const Vector weights = selected_weights(call, scores, ids);
            gates = activation_gate(call) ? weights : normalise(call, weights);
        }
        for (int64_t j = 0; j < call.k; ++j) {
            const int32_t id = ids[static_cast<size_t>(j)];
            const double u = a[static_cast<size_t>(id)];
            const double gate = gates[static_cast<size_t>(j)];
            ++out.counts[static_cast<size_t>(id)];
            out.ids.push_back(id);
            out.gates.push_back(gate);
            out.u.push_back(u);
            for (int64_t o = 0; o < call.d_out; ++o) {
                out.y[at(t, call.d_out, o)] += call.scale * call.B[at(o, call.r, id)] * gate * u;
            }
        }
    }
    return out;
}

RankLoraGradient rank_lora_backward(const RankLora& call, const RankLoraOutput& forward, const Vector& dy) {
    const bool routed = call.gate == MOEK_RANK_GATE_ROUTER;
    const int64_t router_rows = call.r / call.rank_partition;
    RankLoraGradient gradient;
    gradient.dx = zeros(call.T, call.d_in);
    gradient.dA = zeros(call.r, call.d_in);
    gradient.dB = zeros(call.d_out, call.r);
    gradient.dgates = zeros(call.T, call.k);
    if (routed) gradient.dW_r = zeros(router_rows, call.d_in);
    if (!call.router_input.empty()) gradient.drouter_input = zeros(call.T, call.d_in);

    for (int64_t t = 0; t < call.T; ++t) {
        const Vector x = dropped_row(call, t);
        const int32_t* ids = forward.ids.data() + t * call.k;
        Vector da(static_cast<size_t>(call.r), 0.0);  // gradient to A x~
        Vector dgates;
        for (int64_t j = 0; j < call.k; ++j) {
            const double gate = forward.gates[at(t, call.k, j)];
            const double u = forward.u[at(t, call.k, j)];
            double dh = 0;
            for (int64_t o = 0; o < call.d_out; ++o) {
                const double dy_o = dy[at(t, call.d_out, o)];
                dh += call.scale * call.B[at(o, call.r, ids[j])] * dy_o;
                gradient.dB[at(o, call.r, ids[j])] += call.scale * gate * u * dy_o;
            }
            dgates.push_back(u * dh);
            da[static_cast<size_t>(ids[j])] += gate * dh;
        }
        std::copy(dgates.begin(), dgates.end(), gradient.dgates.begin() + t * call.k);

        if (call.gate == MOEK_RANK_GATE_ACTIVATION_SOFTMAX) {
            const auto begin = forward.gate_logits.begin() + t * call.r;
            const Vector through_gates =
                activation_softmax_backward(call, Vector(begin, begin + call.r), ids, dgates.data());
            for (size_t i = 0; i < da.size(); ++i) da[i] += through_gates[i];
        }

        Vector dx(static_cast<size_t>(call.d_in), 0.0);  // gradient to x~
        for (int64_t i = 0; i < call.r; ++i) {
            for (int64_t c = 0; c < call.d_in; ++c) {
                const auto column = static_cast<size_t>(c);
                gradient.dA[at(i, call.d_in, c)] += da[static_cast<size_t>(i)] * x[column];
                dx[column] += da[static_cast<size_t>(i)] * call.A[at(i, call.d_in, c)];
            }
        }
        if (routed) {
            const Vector input = router_row(call, t);
            const auto begin = forward.gate_logits.begin() + t * router_rows;
            const Vector dz = router_backward(call, Vector(begin, begin + router_rows), ids, dgates.data());
            for (int64_t i = 0; i < router_rows; ++i) {
                for (int64_t c = 0; c < call.d_in; ++c) {
                    const double dz_i = dz[static_cast<size_t>(i)];
                    const double through_router = dz_i * call.W_r[at(i, call.d_in, c)];
                    gradient.dW_r[at(i, call.d_in, c)] += dz_i * input[static_cast<size_t>(c)];
                    if (call.router_input.empty()) {
                        dx[static_cast<size_t>(c)] += through_router;
                    } else {
                        gradient.drouter_input[at(t, call.d_in, c)] += through_router;
                    }
                }
            }
        }
        for (int64_t c = 0; c < call.d_in; ++c) {
            const size_t i = at(t, call.d_in, c);
            gradient.dx[i] = dx[static_cast<size_t>(c)] * (call.dropout_mask.empty() ? 1.0 : call.dropout_mask[i]);
        }
    }
    return gradient;
}

}  // namespace moek::reference
