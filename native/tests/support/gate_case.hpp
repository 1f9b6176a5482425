// One call of the op `gate` with its tensors, and the reference's answer to it.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "cpu/gate/reference.hpp"
#include "moekernels.h"
#include "tests/support/context.hpp"
#include "tests/support/random.hpp"
#include "tests/support/tensor.hpp"

namespace moek::test {

struct GateConfig {
    moek_gate_score score = MOEK_GATE_SCORE_SOFTMAX;
    moek_gate_select select = MOEK_GATE_SELECT_TOP_K;
    moek_bias_mode bias_mode = MOEK_BIAS_MODE_NONE;
    moek_gate_normalize normalize = MOEK_GATE_NORMALIZE_NONE;
    double eps = 0;
    double temperature = 1;
    double weight_scale = 1;
};

inline std::string describe(const GateConfig& config) {
    return "score " + std::to_string(config.score) + " select " + std::to_string(config.select) + " bias " +
           std::to_string(config.bias_mode) + " normalize " + std::to_string(config.normalize) + " eps " +
           std::to_string(config.eps) + " temperature " + std::to_string(config.temperature) + " scale " +
           std::to_string(config.weight_scale);
}

// Every score, selection, bias and normalisation, with and without the numeric options.
inline std::vector<GateConfig> all_gate_configs() {
    std::vector<GateConfig> configs;
    for (int score = 0; score < 3; ++score) {
        for (int select = 0; select < 2; ++select) {
            for (int bias = 0; bias < 3; ++bias) {
                for (int normalize = 0; normalize < 3; ++normalize) {
                    GateConfig config;
                    config.score = static_cast<moek_gate_score>(score);
                    config.select = static_cast<moek_gate_select>(select);
                    config.bias_mode = static_cast<moek_bias_mode>(bias);
                    config.normalize = static_cast<moek_gate_normalize>(normalize);
                    configs.push_back(config);
                    config.eps = 0.0625;
                    config.temperature = 0.75;
                    config.weight_scale = 2.5;
                    configs.push_back(config);
                }
            }
        }
    }
    return configs;
}

// Tensors of one call. Outputs are poisoned; strides leave gaps.
struct GateCase {
    GateCase(const GateConfig& config, int32_t dtype, int64_t T, int64_t E, int64_t k,
             const std::vector<double>& logits, const std::vector<double>& bias, int64_t gap = 3)
        : logits_tensor(dtype, T, E, logits, E + gap),
          bias_tensor(accumulator_dtype(dtype), bias.empty() ? 0 : 1, bias.empty() ? 0 : E, bias),
          ids(T, k),
          weights(accumulator_dtype(dtype), T, k),
          counts(1, E),
          lse(accumulator_dtype(dtype), 1, T),
          dweights(accumulator_dtype(dtype), T, k),
          dlse(accumulator_dtype(dtype), 1, T),
          dlogits(dtype, T, E, E + gap + 2) {
        args.struct_size = sizeof(args);
        args.T = T;
        args.E = E;
        args.k = k;
        args.logits_stride = logits_tensor.stride();
        args.dlogits_stride = dlogits.stride();
        args.logits_dtype = dtype;
        args.score = config.score;
        args.select = config.select;
        args.bias_mode = config.bias_mode;
        args.normalize = config.normalize;
        args.eps = config.eps;
        args.temperature = config.temperature;
        args.weight_scale = config.weight_scale;
        args.logits = logits_tensor.data();
        args.bias = bias.empty() ? nullptr : bias_tensor.data();
        args.weights = weights.data();
        args.lse = lse.data();
        if (config.select == MOEK_GATE_SELECT_TOP_K) {
            args.ids = ids.data();
            args.counts = counts.data();
        }
        args.dweights = dweights.data();
        args.dlse = dlse.data();
        args.dlogits = dlogits.data();

        reference.T = T;
        reference.E = E;
        reference.k = k;
        reference.score = config.score;
        reference.select = config.select;
        reference.bias_mode = config.bias_mode;
        reference.normalize = config.normalize;
        reference.eps = config.eps;
        reference.temperature = config.temperature;
        reference.weight_scale = config.weight_scale;
        reference.logits = logits_tensor.values();
        if (!bias.empty()) reference.bias = bias_tensor.values();
    }
    GateCase(const GateCase&) = delete;
    GateCase& operator=(const GateCase&) = delete;

    moek_status forward(moek_context* context) {
        return run(moek_gate_forward_workspace, moek_gate_forward, context, args);
    }
    moek_status backward(moek_context* context) {
        return run(moek_gate_backward_workspace, moek_gate_backward, context, args);
    }

    Tensor logits_tensor;
    Tensor bias_tensor;
    IntTensor ids;
    Tensor weights;
    IntTensor counts;
    Tensor lse;
    Tensor dweights;
    Tensor dlse;
    Tensor dlogits;
    moek_gate_args args = {};
    reference::Gate reference;
};

// A bias for the config; empty without one.
inline std::vector<double> random_bias(Random& random, const GateConfig& config, int64_t E) {
    if (config.bias_mode == MOEK_BIAS_MODE_NONE) return {};
    std::vector<double> bias(static_cast<size_t>(E));
    for (double& value : bias) value = random.uniform(-0.1, 0.3);
    return bias;
}

// Random logits, rounded to the dtype, whose selection a few rounding errors cannot change and whose weights are not
// quotients of nearly cancelling sums.
inline std::vector<double> random_logits(Random& random, const GateConfig& config, int32_t dtype, int64_t T, int64_t E,
                                         int64_t k, const std::vector<double>& bias) {
    const double margin = bias.empty() ? 0 : 16 * epsilon(accumulator_dtype(dtype));
    std::vector<double> logits;
    for (int64_t t = 0; t < T; ++t) {
        for (int attempt = 0;; ++attempt) {
            GateCase row(config, dtype, 1, E, k, random.normals(E, 2), bias, 0);
            const reference::GateOutput out = reference::gate_forward(row.reference);
            double largest_weight = 0;
            for (double w : out.weights) largest_weight = std::max(largest_weight, std::fabs(w));
            const bool well_posed =
                config.normalize == MOEK_GATE_NORMALIZE_NONE ||
                largest_weight < 3 * config.weight_scale * static_cast<double>(config.normalize == 2 ? k : 1);
            if ((well_posed && reference::gate_selection_margin(row.reference) >= margin) || attempt == 1000) {
                EXPECT_LT(attempt, 1000) << "no well-posed logits found";
                logits.insert(logits.end(), row.reference.logits.begin(), row.reference.logits.end());
                break;
            }
        }
    }
    return logits;
}

}  // namespace moek::test
