#pragma once

#include <cstdint>
#include <vector>

#include "moekernels.h"

namespace moek::reference {

/// One rank_lora call in double, all tensors dense and row-major; an empty vector is an absent tensor.
///
/// The oracle of the fast paths: plain loops over the formulas of moek_rank_lora_args, one token at a time. It shares
/// no code with them, checks nothing, and does not care about speed.
struct RankLora {
    int64_t T = 0;
    int64_t d_in = 1;
    int64_t d_out = 1;
    int64_t r = 1;
    int64_t k = 1;
    int64_t rank_partition = 1;
    moek_rank_gate gate = MOEK_RANK_GATE_ROUTER;
    moek_gate_score score = MOEK_GATE_SCORE_SOFTMAX;
    moek_bias_mode bias_mode = MOEK_BIAS_MODE_NONE;
    moek_gate_normalize normalize = MOEK_GATE_NORMALIZE_NONE;
    double scale = 1;
    double eps = 0;
    double temperature = 1;
    double threshold = 0;
    std::vector<double> x;             // [T, d_in]
    std::vector<double> dropout_mask;  // [T, d_in]: the factors on x, 0 or 1 / (1 - p); empty: no dropout
    std::vector<double> router_input;  // [T, d_in]; empty: the router reads the dropped x
    std::vector<double> A;             // [r, d_in]
    std::vector<double> B;             // [d_out, r]
    std::vector<double> W_r;           // [r / rank_partition, d_in]; ROUTER
    std::vector<double> bias;          // [r]; empty with MOEK_BIAS_MODE_NONE
    std::vector<int32_t> ids;          // [T, k]; CALLER
    std::vector<double> gates;         // [T, k]; CALLER
};

/// What forward writes, shapes as in moek_rank_lora_args.
struct RankLoraOutput {
    std::vector<double> y;            // [T, d_out]
    std::vector<int32_t> ids;         // [T, k]
    std::vector<double> gates;        // [T, k]
    std::vector<double> u;            // [T, k]
    std::vector<double> gate_logits;  // [T, r / rank_partition] with ROUTER, [T, r] with ACTIVATION_SOFTMAX
    std::vector<int32_t> counts;      // [r]
};

/// What backward writes, shapes as in moek_rank_lora_args.
struct RankLoraGradient {
    std::vector<double> dx;             // [T, d_in]
    std::vector<double> drouter_input;  // [T, d_in]; empty without router_input
    std::vector<double> dA;             // [r, d_in]
    std::vector<double> dB;             // [d_out, r]
    std::vector<double> dW_r;           // [r / rank_partition, d_in]; empty unless ROUTER
    std::vector<double> dgates;         // [T, k]
};

RankLoraOutput rank_lora_forward(const RankLora& call);

/// Backward of the call, given what its forward returned and dy [T, d_out]. The selection is constant.
RankLoraGradient rank_lora_backward(const RankLora& call, const RankLoraOutput& forward, const std::vector<double>& dy);

}  // namespace moek::reference
