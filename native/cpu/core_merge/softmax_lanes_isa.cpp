#include "cpu/common/lanes.hpp"
#include "cpu/common/vector_math.hpp"
#include "cpu/core_merge/softmax_lanes.hpp"

namespace moek::cpu::MOEK_ISA_NAME {
namespace {

Group group_at(int64_t row, int64_t count) {
    return {row, count - row < kLaneRows ? count - row : kLaneRows};
}

// Replaces the logits by p. False when a lane has a NaN.
bool softmax_group(Lanes* z, int64_t E, float temperature) {
    Lanes largest, sum;
    IntLanes has_nan;
    for_lanes([&](int i) {
        largest.at[i] = -kInfinity<float>;
        sum.at[i] = 0;
        has_nan.at[i] = 0;
    });
    for (int64_t e = 0; e < E; ++e) {
        for_lanes([&](int i) {
            const float logit = z[e].at[i];
            const bool is_nan = logit != logit;
            has_nan.at[i] |= static_cast<int32_t>(is_nan);
            const float score = is_nan ? -kInfinity<float> : logit / temperature;
            z[e].at[i] = score;
            largest.at[i] = score > largest.at[i] ? score : largest.at[i];
        });
    }
    for (int64_t e = 0; e < E; ++e) {
        for_lanes([&](int i) {
            const float score = z[e].at[i];
            const float below = score - largest.at[i];
            // inf - inf is NaN: infinite scores share the weight, and a row without any has none.
            const float limit = score == kInfinity<float> ? 0.0f : -kInfinity<float>;
            const float p = exponential(below != below ? limit : below);
            z[e].at[i] = p;
            sum.at[i] += p;
        });
    }
    for_lanes([&](int i) { sum.at[i] = sum.at[i] == 0 ? 0 : 1 / sum.at[i]; });
    for (int64_t e = 0; e < E; ++e) {
        for_lanes([&](int i) { z[e].at[i] *= sum.at[i]; });
    }
    int32_t any = 0;
    for_lanes([&](int i) { any |= has_nan.at[i]; });
    return any == 0;
}

int64_t first_nan(const float* z, int64_t z_stride, int64_t first, int64_t count, int64_t E) {
    for (int64_t row = first; row < count; ++row) {
        for (int64_t e = 0; e < E; ++e) {
            const float logit = z[row * z_stride + e];
            if (logit != logit) return row;
        }
    }
    return -1;
}

}  // namespace

int64_t softmax_lanes(const float* z, int64_t z_stride, float* p, int64_t count, int64_t E, float temperature) {
    Lanes columns[size_t{kMostSoftmaxLaneExperts}];
    int64_t nan_row = -1;
    for (int64_t row = 0; row < count; row += kLaneRows) {
        const Group group = group_at(row, count);
        load_columns(z, z_stride, group, E, columns);
        const bool is_clean = softmax_group(columns, E, temperature);
        // Before p, which may be z, is written.
        if (!is_clean && nan_row < 0) nan_row = first_nan(z, z_stride, row, count, E);
        store_columns(columns, group, E, false, p, E);
    }
    return nan_row;
}

void softmax_lanes_back(const float* p, float* dp_to_dl, int64_t count, int64_t E, float temperature) {
    Lanes weights[size_t{kMostSoftmaxLaneExperts}];
    Lanes gradients[size_t{kMostSoftmaxLaneExperts}];
    for (int64_t row = 0; row < count; row += kLaneRows) {
        const Group group = group_at(row, count);
        load_columns(p, E, group, E, weights);
        load_columns(dp_to_dl, E, group, E, gradients);
        Lanes projection;
        for_lanes([&](int i) { projection.at[i] = 0; });
        for (int64_t e = 0; e < E; ++e) {
            for_lanes([&](int i) { projection.at[i] += weights[e].at[i] * gradients[e].at[i]; });
        }
        for (int64_t e = 0; e < E; ++e) {
            for_lanes([&](int i) {
                const float gradient = gradients[e].at[i] - projection.at[i];
                gradients[e].at[i] = weights[e].at[i] * gradient / temperature;
            });
        }
        store_columns(gradients, group, E, false, dp_to_dl, E);
    }
}

}  // namespace moek::cpu::MOEK_ISA_NAME
