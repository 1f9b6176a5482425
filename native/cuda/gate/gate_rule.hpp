// What a kernel has to know about a gate, made on the host from a checked call.
#pragma once

#include <cstdint>

#include "moekernels.h"

namespace moek::cuda {

// The maths of moek_gate_args on rows of E elements. Uniform over a launch, so that a branch on it costs no divergence.
struct GateRule {
    int E;
    int k;  // E when `all`
    bool all;
    int32_t score;
    int32_t bias_mode;
    int32_t normalize;
    float eps;
    float temperature;
    float inverse_temperature;
    float weight_scale;
    const float* bias;  // [E]; null with MOEK_BIAS_MODE_NONE

    // Weights whose quotients do not depend on how the row's softmax is scaled: a softmax over the selected logits
    // alone. It stays exact where the selected probabilities underflow.
    __host__ __device__ bool is_selected_softmax() const {
        return score == MOEK_GATE_SCORE_SOFTMAX && bias_mode != MOEK_BIAS_MODE_WEIGHT &&
               normalize != MOEK_GATE_NORMALIZE_NONE && eps == 0;
    }
    __host__ __device__ float normalized_total() const {
        return normalize == MOEK_GATE_NORMALIZE_SUM_TO_K ? static_cast<float>(k) : 1.0f;
    }
};

inline GateRule make_gate_rule(const moek_gate_args& args) {
    GateRule rule = {};
    rule.E = static_cast<int>(args.E);
    rule.k = static_cast<int>(args.k);
    rule.all = args.select == MOEK_GATE_SELECT_ALL;
    rule.score = args.score;
    rule.bias_mode = args.bias_mode;
    rule.normalize = args.normalize;
    rule.eps = static_cast<float>(args.eps);
    rule.temperature = static_cast<float>(args.temperature);
    rule.inverse_temperature = 1 / rule.temperature;
    rule.weight_scale = static_cast<float>(args.weight_scale);
    rule.bias = static_cast<const float*>(args.bias);
    return rule;
}

// The router of rank_lora: the ranks are the experts. The caller repeats its r / rank_partition logits.
inline GateRule make_router_rule(const moek_rank_lora_args& args) {
    GateRule rule = {};
    rule.E = static_cast<int>(args.r);
    rule.k = static_cast<int>(args.k);
    rule.score = args.score;
    rule.bias_mode = args.bias_mode;
    rule.normalize = args.normalize;
    rule.eps = static_cast<float>(args.eps);
    rule.temperature = static_cast<float>(args.temperature);
    rule.inverse_temperature = 1 / rule.temperature;
    rule.weight_scale = 1;
    rule.bias = static_cast<const float*>(args.bias);
    return rule;
}

// rank_lora's ACTIVATION_SIGNED, ACTIVATION_ABSOLUTE and ACTIVATION_SOFTMAX: gates made from a = A x~.
struct ActivationRule {
    GateRule softmax;   // ACTIVATION_SOFTMAX up to the threshold; E, k and bias are those of every kind
    int32_t kind;       // one of moek_rank_gate
    int32_t normalize;  // after the threshold
    float norm_eps;     // added to |a|
    float threshold;

    __host__ __device__ float normalized_total() const {
        return normalize == MOEK_GATE_NORMALIZE_SUM_TO_K ? static_cast<float>(softmax.k) : 1.0f;
    }
};

inline ActivationRule make_activation_rule(const moek_rank_lora_args& args) {
    ActivationRule rule = {};
    rule.softmax = make_router_rule(args);
    rule.softmax.score = MOEK_GATE_SCORE_SOFTMAX;
    rule.softmax.normalize = MOEK_GATE_NORMALIZE_NONE;
    rule.softmax.eps = 0;
    rule.kind = args.gate;
    rule.normalize = args.normalize;
    rule.norm_eps = static_cast<float>(args.eps);
    rule.threshold = static_cast<float>(args.threshold);
    return rule;
}

}  // namespace moek::cuda
