// The maths is gate_row.hpp's with its branches turned into selections, and with sums over the experts in their order.
#include "cpu/common/lanes.hpp"
#include "cpu/gate/gate_lanes.hpp"
#include "cpu/gate/gate_row.hpp"

namespace moek::cpu::MOEK_ISA_NAME {
namespace {

// What has k elements in a row, dense.
template <class T, class Column>
void load_slots(const T* rows, const Group& group, int64_t k, Column* columns) {
    for (int64_t i = 0; i < kLaneRows; ++i) {
        const T* const row = rows + group.row(i) * k;
        for (int64_t j = 0; j < k; ++j) columns[j].at[i] = row[j];
    }
}

template <class T, class Column>
void store_slots(const Column* columns, const Group& group, int64_t k, T* rows) {
    for (int64_t i = 0; i < group.count; ++i) {
        T* const row = rows + (group.first + i) * k;
        for (int64_t j = 0; j < k; ++j) row[j] = columns[j].at[i];
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The k best, best first, equal keys in the order of their ids
// ---------------------------------------------------------------------------------------------------------------------

// A key goes before the first that is smaller, and moves all behind it. `count` of them are in the list.
template <int Count>
void insert_key(const Lanes& key, int32_t id, Lanes* best, IntLanes* ids) {
    for_lanes([&](int i) {
        float moving = key.at[i];
        int32_t moving_id = id;
        bool found = false;
        for (int j = 0; j < Count; ++j) {
            found = found | (moving > best[j].at[i]);
            const float here = best[j].at[i];
            const int32_t id_here = ids[j].at[i];
            best[j].at[i] = found ? moving : here;
            ids[j].at[i] = found ? moving_id : id_here;
            moving = found ? here : moving;
            moving_id = found ? id_here : moving_id;
        }
    });
}

void insert_key(const Lanes& key, int32_t id, int64_t count, Lanes* best, IntLanes* ids, int64_t k) {
    Lanes moving = key;
    IntLanes moving_id;
    IntLanes found;
    for_lanes([&](int i) {
        moving_id.at[i] = id;
        found.at[i] = 0;
    });
    for (int64_t j = 0; j < count; ++j) {
        Lanes& kept = best[j];
        IntLanes& kept_id = ids[j];
        for_lanes([&](int i) {
            const bool before = (found.at[i] != 0) | (moving.at[i] > kept.at[i]);
            const float here = kept.at[i];
            const int32_t id_here = kept_id.at[i];
            kept.at[i] = before ? moving.at[i] : here;
            kept_id.at[i] = before ? moving_id.at[i] : id_here;
            moving.at[i] = before ? here : moving.at[i];
            moving_id.at[i] = before ? id_here : moving_id.at[i];
            found.at[i] = before ? 1 : 0;
        });
    }
    if (count == k) return;
    best[count] = moving;
    ids[count] = moving_id;
}

template <int K>
void best_of(const Lanes* keys, int64_t E, Lanes* best, IntLanes* ids) {
    for (int64_t e = 0; e < K; ++e) insert_key(keys[e], static_cast<int32_t>(e), e, best, ids, K);
    for (int64_t e = K; e < E; ++e) insert_key<K>(keys[e], static_cast<int32_t>(e), best, ids);
}

void best_of(const Lanes* keys, int64_t E, int64_t k, Lanes* best, IntLanes* ids) {
    switch (k) {
        case 1:
            return best_of<1>(keys, E, best, ids);
        case 2:
            return best_of<2>(keys, E, best, ids);
        case 4:
            return best_of<4>(keys, E, best, ids);
        case 8:
            return best_of<8>(keys, E, best, ids);
        default:
            for (int64_t e = 0; e < E; ++e) {
                insert_key(keys[e], static_cast<int32_t>(e), e < k ? e : k, best, ids, k);
            }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The pieces of gate_row.hpp
// ---------------------------------------------------------------------------------------------------------------------

// Everything about a group that both directions need.
struct Rows {
    Lanes z[size_t{kMostLaneExperts}];       // the logits, NaN replaced by -infinity
    Lanes p[size_t{kMostLaneExperts}];       // softmax over the whole row
    Lanes chosen[size_t{kMostLaneExperts}];  // the selected logits, -infinity for masked ones
    Lanes values[size_t{kMostLaneExperts}];  // what weights are made of
    IntLanes ids[size_t{kMostLaneExperts}];
    Lanes largest;
    Lanes sum;  // of the shifted exponentials
};

void clean(int64_t E, Rows& rows) {
    for_lanes([&](int i) { rows.largest.at[i] = -kInfinity<float>; });
    for (int64_t e = 0; e < E; ++e) {
        Lanes& z = rows.z[e];
        for_lanes([&](int i) {
            const float value = z.at[i] > -kInfinity<float> ? z.at[i] : -kInfinity<float>;
            z.at[i] = value;
            rows.largest.at[i] = value > rows.largest.at[i] ? value : rows.largest.at[i];
        });
    }
}

// exp((z - shift) / temperature); with an infinite shift 1 for the infinite logits and 0 for the others, with a shift of
// -infinity 0.
float shifted_exponential(float z, float shift, float inverse_temperature) {
    const float limit = z == kInfinity<float> ? 0.0f : -kInfinity<float>;
    const bool is_finite = shift - shift == 0;
    const float below = (z - (is_finite ? shift : 0)) * inverse_temperature;
    return exponential(is_finite ? below : limit);
}

void softmax(const GateRule<float>& rule, Rows& rows) {
    const float inverse_temperature = 1 / rule.temperature;
    Lanes sum;
    for_lanes([&](int i) { sum.at[i] = 0; });
    for (int64_t e = 0; e < rule.E; ++e) {
        for_lanes([&](int i) {
            const float p = shifted_exponential(rows.z[e].at[i], rows.largest.at[i], inverse_temperature);
            rows.p[e].at[i] = p;
            sum.at[i] += p;
        });
    }
    rows.sum = sum;
}

void divide_by_sum(const GateRule<float>& rule, Rows& rows) {
    for (int64_t e = 0; e < rule.E; ++e) {
        for_lanes([&](int i) { rows.p[e].at[i] = rows.p[e].at[i] / rows.sum.at[i]; });
    }
}

void biased_keys(const GateRule<float>& rule, const Rows& rows, Lanes* keys) {
    const float inverse_temperature = 1 / rule.temperature;
    for (int64_t e = 0; e < rule.E; ++e) {
        const float bias = rule.bias[e];
        const bool bias_masks = !(bias > -kInfinity<float>);
        const Lanes& z = rows.z[e];
        Lanes& key = keys[e];
        if (rule.score == MOEK_GATE_SCORE_SOFTMAX) {
            key = rows.p[e];
        } else if (rule.score == MOEK_GATE_SCORE_SIGMOID) {
            for_lanes([&](int i) { key.at[i] = gate_detail::sigmoid(z.at[i] * inverse_temperature); });
        } else {
            for_lanes([&](int i) { key.at[i] = z.at[i] * inverse_temperature; });
        }
        for_lanes([&](int i) {
            const bool is_masked = bias_masks | !(z.at[i] > -kInfinity<float>);
            key.at[i] = is_masked ? -kInfinity<float> : key.at[i] + bias;
        });
    }
}

// The selected logits, given the ids (unless all are selected).
void select_logits(const GateRule<float>& rule, Rows& rows) {
    for (int64_t j = 0; j < rule.k; ++j) {
        Lanes& chosen = rows.chosen[j];
        if (rule.all) {
            chosen = rows.z[j];
        } else {
            for (int i = 0; i < kLaneRows; ++i) chosen.at[i] = rows.z[rows.ids[j].at[i]].at[i];
        }
        if (rule.bias == nullptr) continue;
        for (int i = 0; i < kLaneRows; ++i) {
            const float bias = rule.bias[rule.all ? j : rows.ids[j].at[i]];
            chosen.at[i] = bias > -kInfinity<float> ? chosen.at[i] : -kInfinity<float>;
        }
    }
}

// What weights are made of, before normalisation: 0 for masked experts.
void select_values(const GateRule<float>& rule, Rows& rows) {
    const float inverse_temperature = 1 / rule.temperature;
    if (gate_detail::is_selected_softmax(rule)) {
        Lanes shift;
        for_lanes([&](int i) { shift.at[i] = -kInfinity<float>; });
        for (int64_t j = 0; j < rule.k; ++j) {
            for_lanes([&](int i) {
                const float logit = rows.chosen[j].at[i];
                shift.at[i] = logit > shift.at[i] ? logit : shift.at[i];
            });
        }
        for (int64_t j = 0; j < rule.k; ++j) {
            for_lanes([&](int i) {
                const float value = shifted_exponential(rows.chosen[j].at[i], shift.at[i], inverse_temperature);
                // All the mass sits on infinite logits that were not selected.
                const bool is_lost = (rows.largest.at[i] == kInfinity<float>)&(shift.at[i] < kInfinity<float>);
                rows.values[j].at[i] = is_lost ? 0 : value;
            });
        }
        return;
    }
    for (int64_t j = 0; j < rule.k; ++j) {
        const Lanes& chosen = rows.chosen[j];
        Lanes& values = rows.values[j];
        if (rule.score == MOEK_GATE_SCORE_SOFTMAX) {
            // The same bits as in p.
            for_lanes([&](int i) {
                values.at[i] =
                    shifted_exponential(chosen.at[i], rows.largest.at[i], inverse_temperature) / rows.sum.at[i];
            });
        } else if (rule.score == MOEK_GATE_SCORE_SIGMOID) {
            for_lanes([&](int i) { values.at[i] = gate_detail::sigmoid(chosen.at[i] * inverse_temperature); });
        } else {
            for_lanes([&](int i) { values.at[i] = chosen.at[i] * inverse_temperature; });
        }
        if (rule.bias_mode == MOEK_BIAS_MODE_WEIGHT) {
            for (int i = 0; i < kLaneRows; ++i) values.at[i] += rule.bias[rule.all ? j : rows.ids[j].at[i]];
        }
        for_lanes([&](int i) { values.at[i] = chosen.at[i] > -kInfinity<float> ? values.at[i] : 0; });
    }
}

Lanes sum_of_values(const GateRule<float>& rule, const Rows& rows) {
    Lanes sum;
    for_lanes([&](int i) { sum.at[i] = 0; });
    for (int64_t j = 0; j < rule.k; ++j) {
        for_lanes([&](int i) { sum.at[i] += rows.values[j].at[i]; });
    }
    return sum;
}

// Infinite values share the whole weight; finite ones whose sum overflows are scaled down. Lanes whose sum is finite
// keep their values.
void tame_overflow(const GateRule<float>& rule, Rows& rows, Lanes& denominator) {
    int32_t any = 0;
    for_lanes([&](int i) {
        any |= static_cast<int32_t>(denominator.at[i] == kInfinity<float>) |
               static_cast<int32_t>(denominator.at[i] == -kInfinity<float>);
    });
    if (any == 0) return;
    for (int i = 0; i < kLaneRows; ++i) {
        if (denominator.at[i] - denominator.at[i] == 0 || denominator.at[i] != denominator.at[i]) continue;
        float largest = 0;
        for (int64_t j = 0; j < rule.k; ++j) {
            const float value = rows.values[j].at[i];
            const float magnitude = value < 0 ? -value : value;
            largest = magnitude > largest ? magnitude : largest;
        }
        float sum = 0;
        for (int64_t j = 0; j < rule.k; ++j) {
            float& value = rows.values[j].at[i];
            value = largest == kInfinity<float> ? (value == largest ? 1.0f : 0.0f) : value / largest;
            sum += value;
        }
        denominator.at[i] = sum;
    }
}

// Turns values into weights, in place.
void normalize_values(const GateRule<float>& rule, Rows& rows) {
    const float scale = rule.weight_scale;
    if (rule.normalize == MOEK_GATE_NORMALIZE_NONE) {
        for (int64_t j = 0; j < rule.k; ++j) {
            for_lanes([&](int i) { rows.values[j].at[i] *= scale; });
        }
        return;
    }
    Lanes denominator = sum_of_values(rule, rows);
    for_lanes([&](int i) { denominator.at[i] += rule.eps; });
    tame_overflow(rule, rows, denominator);
    const float total = gate_detail::normalize_total(rule) * scale;
    for (int64_t j = 0; j < rule.k; ++j) {
        for_lanes([&](int i) {
            const float factor = denominator.at[i] == 0 ? 0 : total;
            const float divisor = denominator.at[i] == 0 ? 1 : denominator.at[i];
            rows.values[j].at[i] = factor * (rows.values[j].at[i] / divisor);
        });
    }
}

// A row of only NaN or -infinity.
bool is_dead(const Rows& rows, int i) {
    return rows.largest.at[i] == -kInfinity<float>;
}

// ---------------------------------------------------------------------------------------------------------------------
// A group of rows
// ---------------------------------------------------------------------------------------------------------------------

template <class Storage>
void forward_group(const GateRule<float>& rule, const moek_gate_args& args, const Group& group, Rows& rows) {
    const int64_t E = rule.E;
    const int64_t k = rule.k;
    load_columns(static_cast<const Storage*>(args.logits), args.logits_stride, group, E, rows.z);
    clean(E, rows);

    const bool is_softmax = rule.score == MOEK_GATE_SCORE_SOFTMAX;
    const bool has_keys = rule.bias != nullptr && !rule.all;
    const bool selected_softmax = gate_detail::is_selected_softmax(rule);
    if (args.lse != nullptr || (is_softmax && (has_keys || !selected_softmax))) softmax(rule, rows);
    if (!rule.all) {
        if (has_keys) {
            if (is_softmax) divide_by_sum(rule, rows);
            // Into p, which is not needed beyond the keys; the list of best keys into values, which are not there yet.
            biased_keys(rule, rows, rows.p);
            best_of(rows.p, E, k, rows.values, rows.ids);
        } else {
            // Without a bias the logits themselves order the experts, also where scores underflow or saturate.
            best_of(rows.z, E, k, rows.chosen, rows.ids);
        }
    }
    if (rule.all || has_keys) select_logits(rule, rows);
    select_values(rule, rows);
    normalize_values(rule, rows);
    for (int64_t j = 0; j < k; ++j) {
        for_lanes([&](int i) { rows.values[j].at[i] = is_dead(rows, i) ? 0 : rows.values[j].at[i]; });
    }

    store_slots(rows.values, group, k, static_cast<float*>(args.weights));
    if (!rule.all) store_slots(rows.ids, group, k, static_cast<int32_t*>(args.ids));
    if (args.lse == nullptr) return;
    float* const lse = static_cast<float*>(args.lse) + group.first;
    for (int64_t i = 0; i < group.count; ++i) {
        const float largest = rows.largest.at[i];
        const bool is_finite = largest - largest == 0;
        lse[i] = is_finite ? largest / rule.temperature + logarithm(rows.sum.at[i]) : largest;
    }
}

template <class Storage>
void backward_group(const GateRule<float>& rule, const moek_gate_args& args, const Group& group, Rows& rows) {
    const int64_t E = rule.E;
    const int64_t k = rule.k;
    load_columns(static_cast<const Storage*>(args.logits), args.logits_stride, group, E, rows.z);
    clean(E, rows);
    if (!rule.all) load_slots(static_cast<const int32_t*>(args.ids), group, k, rows.ids);

    const bool selected_softmax = gate_detail::is_selected_softmax(rule);
    const bool dense = rule.score == MOEK_GATE_SCORE_SOFTMAX && !selected_softmax;
    if (dense || args.dlse != nullptr) {
        softmax(rule, rows);
        divide_by_sum(rule, rows);
    }
    select_logits(rule, rows);
    select_values(rule, rows);
    // z is not needed any more, and dweights come row by row.
    Lanes* const dweights = rows.z;
    load_slots(static_cast<const float*>(args.dweights), group, k, dweights);

    // Through the normalisation: see gate_row.hpp.
    Lanes denominator, scale, mean;
    for_lanes([&](int i) {
        denominator.at[i] = 1;
        scale.at[i] = rule.weight_scale;
        mean.at[i] = 0;
    });
    if (rule.normalize != MOEK_GATE_NORMALIZE_NONE) {
        const float total = rule.weight_scale * gate_detail::normalize_total(rule);
        denominator = sum_of_values(rule, rows);
        for_lanes([&](int i) {
            const float sum = denominator.at[i] + rule.eps;
            // Zero weights, or infinite values that share the weight: nothing depends on the scores.
            const bool is_constant = (sum == 0) | (sum - sum != 0);
            scale.at[i] = is_constant ? 0 : total;
            denominator.at[i] = is_constant ? 1 : sum;
        });
        for (int64_t j = 0; j < k; ++j) {
            for_lanes([&](int i) {
                const float term = dweights[j].at[i] * (rows.values[j].at[i] / denominator.at[i]);
                // A masked expert's dweight may be anything, also NaN.
                const bool counts = (scale.at[i] != 0) & (rows.chosen[j].at[i] > -kInfinity<float>);
                mean.at[i] += counts ? term : 0;
            });
        }
    }
    for (int64_t j = 0; j < k; ++j) {
        for_lanes([&](int i) {
            const float share = (selected_softmax ? rows.values[j].at[i] : 1) / denominator.at[i];
            const bool has_gradient = (scale.at[i] != 0) & (rows.chosen[j].at[i] > -kInfinity<float>);
            const float gradient = scale.at[i] * share * (dweights[j].at[i] - mean.at[i]);
            rows.values[j].at[i] = has_gradient ? gradient : 0;
        });
    }

    // Through the score, into p.
    const float inverse_temperature = 1 / rule.temperature;
    Lanes shift;
    for_lanes([&](int i) { shift.at[i] = 0; });
    if (args.dlse != nullptr) {
        const float* const dlse = static_cast<const float*>(args.dlse);
        for (int i = 0; i < kLaneRows; ++i) shift.at[i] = dlse[group.row(i)];
    }
    const auto expert = [&](int64_t j, int i) { return rule.all ? j : static_cast<int64_t>(rows.ids[j].at[i]); };
    if (dense) {
        for (int64_t j = 0; j < k; ++j) {
            for (int i = 0; i < kLaneRows; ++i) shift.at[i] -= rows.p[expert(j, i)].at[i] * rows.values[j].at[i];
        }
        // What the selected get beside the others, before p is overwritten.
        for (int64_t j = 0; j < k; ++j) {
            for (int i = 0; i < kLaneRows; ++i) {
                rows.chosen[j].at[i] =
                    rows.p[expert(j, i)].at[i] * (rows.values[j].at[i] + shift.at[i]) * inverse_temperature;
            }
        }
    } else {
        for (int64_t j = 0; j < k; ++j) {
            if (rule.score == MOEK_GATE_SCORE_SIGMOID) {
                for_lanes([&](int i) {
                    const float slope = gate_detail::sigmoid_slope(rows.chosen[j].at[i] * inverse_temperature);
                    rows.chosen[j].at[i] = rows.values[j].at[i] * slope * inverse_temperature;
                });
            } else {
                for_lanes([&](int i) { rows.chosen[j].at[i] = rows.values[j].at[i] * inverse_temperature; });
            }
        }
    }
    if (dense || args.dlse != nullptr) {
        for (int64_t e = 0; e < E; ++e) {
            for_lanes([&](int i) {
                const float gradient = rows.p[e].at[i] * shift.at[i] * inverse_temperature;
                rows.p[e].at[i] = is_dead(rows, i) ? 0 : gradient;
            });
        }
    } else {
        std::memset(rows.p, 0, static_cast<size_t>(E) * sizeof(Lanes));
    }
    for (int64_t j = 0; j < k; ++j) {
        for (int i = 0; i < kLaneRows; ++i) {
            float& target = rows.p[expert(j, i)].at[i];
            const float gradient = is_dead(rows, i) ? 0 : rows.chosen[j].at[i];
            target = dense ? gradient : target + gradient;
        }
    }
    store_columns(rows.p, group, E, (args.flags & MOEK_CALL_FLAG_ACCUMULATE_OUTPUT) != 0,
                  static_cast<Storage*>(args.dlogits), args.dlogits_stride);
}

template <class Storage>
void forward_rows(const moek_gate_args& args, int64_t first, int64_t last, int32_t* histogram) {
    const GateRule<float> rule = rule_of<float>(args);
    Rows rows;
    for (int64_t row = first; row < last; row += kLaneRows) {
        const Group group = {row, last - row < kLaneRows ? last - row : kLaneRows};
        forward_group<Storage>(rule, args, group, rows);
        if (histogram == nullptr) continue;
        for (int64_t j = 0; j < rule.k; ++j) {
            for (int64_t i = 0; i < group.count; ++i) ++histogram[rows.ids[j].at[i]];
        }
    }
}

template <class Storage>
void backward_rows(const moek_gate_args& args, int64_t first, int64_t last) {
    const GateRule<float> rule = rule_of<float>(args);
    Rows rows;
    for (int64_t row = first; row < last; row += kLaneRows) {
        backward_group<Storage>(rule, args, {row, last - row < kLaneRows ? last - row : kLaneRows}, rows);
    }
}

}  // namespace

void gate_lanes_forward(const moek_gate_args& args, int64_t first, int64_t last, int32_t* histogram) {
    switch (args.logits_dtype) {
        case MOEK_DTYPE_BF16:
            return forward_rows<bf16>(args, first, last, histogram);
        case MOEK_DTYPE_F16:
            return forward_rows<f16>(args, first, last, histogram);
        default:
            return forward_rows<float>(args, first, last, histogram);
    }
}

void gate_lanes_backward(const moek_gate_args& args, int64_t first, int64_t last) {
    switch (args.logits_dtype) {
        case MOEK_DTYPE_BF16:
            return backward_rows<bf16>(args, first, last);
        case MOEK_DTYPE_F16:
            return backward_rows<f16>(args, first, last);
        default:
            return backward_rows<float>(args, first, last);
    }
}

}  // namespace moek::cpu::MOEK_ISA_NAME
