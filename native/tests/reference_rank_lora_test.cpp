#include <algorithm>
#include <numeric>
#include <ostream>

#include "cpu/rank_lora/reference.hpp"
#include "tests/support/reference_check.hpp"

namespace moek::reference {
namespace {

using check::dot;
using check::expect_gradient;
using check::expect_near;
using check::Random;
using check::Vector;

/// What picks and weighs the ranks.
struct Gate {
    moek_rank_gate gate = MOEK_RANK_GATE_ROUTER;
    moek_gate_score score = MOEK_GATE_SCORE_SIGMOID;
    moek_bias_mode bias_mode = MOEK_BIAS_MODE_NONE;
    moek_gate_normalize normalize = MOEK_GATE_NORMALIZE_NONE;
    int64_t rank_partition = 1;
    double eps = 0;
    double threshold = 0;
};

void PrintTo(const Gate& gate, std::ostream* out) {
    *out << "gate " << gate.gate << " score " << gate.score << " bias " << gate.bias_mode << " normalize "
         << gate.normalize << " partition " << gate.rank_partition << " eps " << gate.eps << " threshold "
         << gate.threshold;
}

RankLora random_call(const Gate& gate, unsigned seed) {
    Random random(seed);
    RankLora call;
    call.T = 4;
    call.d_in = 7;
    call.d_out = 5;
    call.r = 6;
    call.k = 3;
    call.gate = gate.gate;
    call.score = gate.score;
    call.bias_mode = gate.bias_mode;
    call.normalize = gate.normalize;
    call.rank_partition = gate.rank_partition;
    call.scale = 1.5;
    call.eps = gate.eps;
    call.temperature = 0.7;
    call.threshold = gate.threshold;
    call.x = random.normal(call.T, call.d_in);
    call.A = random.normal(call.r, call.d_in);
    call.B = random.normal(call.d_out, call.r);
    if (gate.gate == MOEK_RANK_GATE_ROUTER) call.W_r = random.normal(call.r / gate.rank_partition, call.d_in);
    if (gate.bias_mode != MOEK_BIAS_MODE_NONE) {
        // Distinct and small: it decides between equal scores of one partition and leaves the sums positive.
        for (int64_t i = 0; i < call.r; ++i) call.bias.push_back(0.01 * static_cast<double>((i * 5) % call.r));
    }
    if (gate.gate == MOEK_RANK_GATE_CALLER) {
        call.ids = {0, 3, 5, 2, 1, 0, 5, 4, 3, 1, 2, 3};
        call.gates = random.normal(call.T, call.k);
    }
    return call;
}

TEST(RankLoraReference, HandVector) {
    RankLora call;
    call.T = 1;
    call.d_in = call.d_out = call.k = 2;
    call.r = 3;
    call.score = MOEK_GATE_SCORE_SIGMOID;
    call.bias_mode = MOEK_BIAS_MODE_WEIGHT;
    call.normalize = MOEK_GATE_NORMALIZE_SUM_TO_K;
    call.scale = 4.0 / 2;
    call.x = {1, -2};
    call.A = {1, 0, .5, .5, 0, -1};
    call.B = {1, 2, 3, 0, -1, 1};
    call.W_r = {.2, .1, -.3, .4, 0, -.5};
    call.bias = {0, .01, -.02};
    const RankLoraOutput out = rank_lora_forward(call);
    EXPECT_EQ(out.ids, (std::vector<int32_t>{2, 0}));
    EXPECT_EQ(out.counts, (std::vector<int32_t>{1, 0, 1}));
    expect_near(out.gates, {1.1742761105, 0.8257238895}, 1e-9, "gates");
    expect_near(out.u, {2, 1}, 1e-9, "u");
    expect_near(out.y, {15.7427611047, 4.6971044419}, 1e-9, "y");

    const RankLoraGradient gradient = rank_lora_backward(call, out, {1, 1});
    expect_near(gradient.dx, {0.9727082929, -10.6719561849}, 1e-9, "dx");
    expect_near(gradient.dA, {1.6514477791, -3.3028955581, 0, 0, 9.3942088837, -18.7884177675}, 1e-9, "dA");
    expect_near(gradient.dB, {1.6514477791, 0, 4.6971044419, 1.6514477791, 0, 4.6971044419}, 1e-9, "dB");
    expect_near(gradient.dW_r, {-3.3936974306, 6.7873948612, 0, 0, 1.8767551162, -3.7535102323}, 1e-9, "dW_r");
}

std::vector<Gate> all_gates() {
    std::vector<Gate> gates;
    for (const auto score : {MOEK_GATE_SCORE_SOFTMAX, MOEK_GATE_SCORE_SIGMOID, MOEK_GATE_SCORE_IDENTITY}) {
        for (const auto bias : {MOEK_BIAS_MODE_NONE, MOEK_BIAS_MODE_SELECTION, MOEK_BIAS_MODE_WEIGHT}) {
            for (const auto normalize :
                 {MOEK_GATE_NORMALIZE_NONE, MOEK_GATE_NORMALIZE_SUM_TO_ONE, MOEK_GATE_NORMALIZE_SUM_TO_K}) {
                for (const int64_t partition : {1, 2}) {
                    // The rank of a partition that is cut in two is decided by the bias; without one it would be a tie.
                    if (partition > 1 && bias == MOEK_BIAS_MODE_NONE) continue;
                    // Identity scores have either sign; the large eps keeps their sum away from the pole at zero.
                    const double eps = score == MOEK_GATE_SCORE_IDENTITY ? 30 : 0.05;
                    gates.push_back({MOEK_RANK_GATE_ROUTER, score, bias, normalize, partition, eps, 0});
                }
            }
        }
    }
    gates.push_back({MOEK_RANK_GATE_CALLER});
    for (const auto gate : {MOEK_RANK_GATE_ACTIVATION_SIGNED, MOEK_RANK_GATE_ACTIVATION_ABSOLUTE}) {
        gates.push_back({gate});
        gates.push_back({gate, MOEK_GATE_SCORE_SOFTMAX, MOEK_BIAS_MODE_SELECTION});
    }
    for (const auto normalize :
         {MOEK_GATE_NORMALIZE_NONE, MOEK_GATE_NORMALIZE_SUM_TO_ONE, MOEK_GATE_NORMALIZE_SUM_TO_K}) {
        for (const double threshold : {0.0, 0.2}) {
            gates.push_back({MOEK_RANK_GATE_ACTIVATION_SOFTMAX, MOEK_GATE_SCORE_SOFTMAX, MOEK_BIAS_MODE_NONE, normalize,
                             1, 0.05, threshold});
        }
    }
    return gates;
}

class RankLoraReferenceGate : public testing::TestWithParam<Gate> {};

TEST_P(RankLoraReferenceGate, GradientsEqualFiniteDifferences) {
    const bool routed = GetParam().gate == MOEK_RANK_GATE_ROUTER;
    for (const bool separate_input : {false, true}) {
        for (const bool dropout : {false, true}) {
            if (separate_input && !routed) continue;
            SCOPED_TRACE(testing::Message() << "separate_input " << separate_input << " dropout " << dropout);
            RankLora call = random_call(GetParam(), 31);
            Random random(32);
            if (separate_input) call.router_input = random.normal(call.T, call.d_in);
            if (dropout) call.dropout_mask = random.mask(call.T, call.d_in, 0.3);
            const Vector dy = random.normal(call.T, call.d_out);
            const auto loss = [&] { return dot(rank_lora_forward(call).y, dy); };
            const RankLoraGradient gradient = rank_lora_backward(call, rank_lora_forward(call), dy);
            expect_gradient(call.x, gradient.dx, loss, "dx");
            expect_gradient(call.router_input, gradient.drouter_input, loss, "drouter_input");
            expect_gradient(call.A, gradient.dA, loss, "dA");
            expect_gradient(call.B, gradient.dB, loss, "dB");
            expect_gradient(call.W_r, gradient.dW_r, loss, "dW_r");
            if (GetParam().gate == MOEK_RANK_GATE_CALLER) {
                expect_gradient(call.gates, gradient.dgates, loss, "dgates");
            }
        }
    }
}

TEST_P(RankLoraReferenceGate, SelectsDistinctRanksBestFirst) {
    const RankLora call = random_call(GetParam(), 33);
    const RankLoraOutput out = rank_lora_forward(call);
    EXPECT_EQ(std::accumulate(out.counts.begin(), out.counts.end(), 0), call.T * call.k);
    for (int64_t t = 0; t < call.T; ++t) {
        std::vector<int32_t> ids(out.ids.begin() + t * call.k, out.ids.begin() + (t + 1) * call.k);
        std::sort(ids.begin(), ids.end());
        EXPECT_EQ(std::adjacent_find(ids.begin(), ids.end()), ids.end()) << "token " << t;
        EXPECT_GE(ids.front(), 0);
        EXPECT_LT(ids.back(), call.r);
    }
}

INSTANTIATE_TEST_SUITE_P(AllGates, RankLoraReferenceGate, testing::ValuesIn(all_gates()));

/// Plain LoRA: y = scale B A x.
Vector lora(const RankLora& call, double scale) {
    Vector y;
    for (int64_t t = 0; t < call.T; ++t) {
        for (int64_t o = 0; o < call.d_out; ++o) {
            double sum = 0;
            for (int64_t i = 0; i < call.r; ++i) {
                for (int64_t c = 0; c < call.d_in; ++c) {
                    sum += call.B[static_cast<size_t>(o * call.r + i)] *
                           call.A[static_cast<size_t>(i * call.d_in + c)] *
                           call.x[static_cast<size_t>(t * call.d_in + c)];
                }
            }
            y.push_back(scale * sum);
        }
    }
    return y;
}

TEST(RankLoraReference, AllRanksWithAnIndifferentRouterArePlainLora) {
    RankLora call = random_call(
        {MOEK_RANK_GATE_ROUTER, MOEK_GATE_SCORE_SIGMOID, MOEK_BIAS_MODE_NONE, MOEK_GATE_NORMALIZE_SUM_TO_K}, 41);
    call.k = call.r;
    call.W_r.assign(call.W_r.size(), 0.0);
    const RankLoraOutput out = rank_lora_forward(call);
    expect_near(out.y, lora(call, call.scale), 1e-12, "y");
    // Equal scores: the lower id first.
    for (int64_t i = 0; i < call.T * call.k; ++i) EXPECT_EQ(out.ids[static_cast<size_t>(i)], i % call.k);
}

TEST(RankLoraReference, AllRanksByActivationArePlainLora) {
    for (const auto gate : {MOEK_RANK_GATE_ACTIVATION_SIGNED, MOEK_RANK_GATE_ACTIVATION_ABSOLUTE}) {
        RankLora call = random_call({gate}, 42);
        call.k = call.r;
        expect_near(rank_lora_forward(call).y, lora(call, call.scale), 1e-12, "y");
    }
}

TEST(RankLoraReference, SignedAndAbsoluteSelectionDiffer) {
    RankLora call = random_call({MOEK_RANK_GATE_ACTIVATION_SIGNED}, 43);
    call.T = call.d_in = 1;
    call.x = {1};
    call.A = {0.5, -3, 2, -0.1, 0, 1};
    EXPECT_EQ(rank_lora_forward(call).ids, (std::vector<int32_t>{2, 5, 0}));
    call.gate = MOEK_RANK_GATE_ACTIVATION_ABSOLUTE;
    EXPECT_EQ(rank_lora_forward(call).ids, (std::vector<int32_t>{1, 2, 5}));
}

TEST(RankLoraReference, BiasSelectsAndOnlyInWeightModeWeighs) {
    RankLora call = random_call({MOEK_RANK_GATE_ROUTER, MOEK_GATE_SCORE_SIGMOID, MOEK_BIAS_MODE_SELECTION}, 44);
    call.bias.assign(call.bias.size(), 0.0);
    call.bias[4] = 10;
    const RankLoraOutput selection = rank_lora_forward(call);
    call.bias_mode = MOEK_BIAS_MODE_WEIGHT;
    const RankLoraOutput weight = rank_lora_forward(call);
    for (int64_t t = 0; t < call.T; ++t) {
        const auto first = static_cast<size_t>(t * call.k);
        EXPECT_EQ(selection.ids[first], 4);
        EXPECT_LT(selection.gates[first], 1);
        EXPECT_NEAR(weight.gates[first], selection.gates[first] + 10, 1e-12);
    }
}

TEST(RankLoraReference, NormalisedGatesSumToTheirTotal) {
    for (const auto normalize : {MOEK_GATE_NORMALIZE_SUM_TO_ONE, MOEK_GATE_NORMALIZE_SUM_TO_K}) {
        const RankLora call =
            random_call({MOEK_RANK_GATE_ROUTER, MOEK_GATE_SCORE_SIGMOID, MOEK_BIAS_MODE_WEIGHT, normalize}, 45);
        const RankLoraOutput out = rank_lora_forward(call);
        const double total = normalize == MOEK_GATE_NORMALIZE_SUM_TO_K ? static_cast<double>(call.k) : 1.0;
        for (int64_t t = 0; t < call.T; ++t) {
            const auto begin = out.gates.begin() + t * call.k;
            EXPECT_NEAR(std::accumulate(begin, begin + call.k, 0.0), total, 1e-12);
        }
    }
}

TEST(RankLoraReference, NegativeScoresKeepTheirSign) {
    RankLora call = random_call(
        {MOEK_RANK_GATE_ROUTER, MOEK_GATE_SCORE_SIGMOID, MOEK_BIAS_MODE_WEIGHT, MOEK_GATE_NORMALIZE_SUM_TO_ONE}, 46);
    call.T = 1;
    call.x.resize(static_cast<size_t>(call.d_in));
    call.W_r.assign(call.W_r.size(), 0.0);
    call.bias = {-0.4, -0.7, -0.45, -1, -1, -1};  // scores 0.1, -0.2, 0.05, ...
    const RankLoraOutput out = rank_lora_forward(call);
    EXPECT_EQ(out.ids, (std::vector<int32_t>{0, 2, 1}));
    expect_near(out.gates, {0.1 / -0.05, 0.05 / -0.05, -0.2 / -0.05}, 1e-12, "gates");

    call.bias = {0.0, -0.75, -0.25, -1, -1, -1};  // scores 0.5, -0.25, 0.25: the sum of 0.5 is made 0 by eps
    call.eps = -0.5;
    expect_near(rank_lora_forward(call).gates, {0, 0, 0}, 0, "gates of a zero sum");
}

TEST(RankLoraReference, NanScoresLoseAndWeighNothing) {
    for (const auto score : {MOEK_GATE_SCORE_SOFTMAX, MOEK_GATE_SCORE_SIGMOID, MOEK_GATE_SCORE_IDENTITY}) {
        RankLora call = random_call({MOEK_RANK_GATE_ROUTER, score, MOEK_BIAS_MODE_WEIGHT}, 47);
        const Vector W_r = call.W_r;
        call.W_r[0] = std::nan("");
        call.bias[0] = 100;
        const RankLoraOutput out = rank_lora_forward(call);
        EXPECT_EQ(out.counts[0], 0);

        call.W_r.assign(W_r.size(), std::nan(""));
        const RankLoraOutput nothing = rank_lora_forward(call);
        for (double gate : nothing.gates) EXPECT_EQ(gate, 0);
        for (int32_t id : nothing.ids) EXPECT_LT(id, call.k);
        const RankLoraGradient gradient = rank_lora_backward(call, nothing, Random(48).normal(call.T, call.d_out));
        for (double value : gradient.dA) EXPECT_EQ(value, 0);
    }
}

TEST(RankLoraReference, AZeroTokenHasEqualActivationGates) {
    RankLora call = random_call({MOEK_RANK_GATE_ACTIVATION_SOFTMAX}, 49);
    call.x.assign(call.x.size(), 0.0);
    const RankLoraOutput out = rank_lora_forward(call);
    for (double gate : out.gates) EXPECT_NEAR(gate, 1.0 / static_cast<double>(call.r), 1e-15);
    const RankLoraGradient gradient = rank_lora_backward(call, out, Random(50).normal(call.T, call.d_out));
    for (double value : gradient.dx) EXPECT_TRUE(std::isfinite(value));
}

TEST(RankLoraReference, PermutingRanksChangesNothing) {
    const RankLora call = random_call(
        {MOEK_RANK_GATE_ROUTER, MOEK_GATE_SCORE_SIGMOID, MOEK_BIAS_MODE_WEIGHT, MOEK_GATE_NORMALIZE_SUM_TO_K}, 51);
    const std::vector<int64_t> order = {3, 5, 0, 4, 1, 2};
    RankLora permuted = call;
    for (int64_t i = 0; i < call.r; ++i) {
        const int64_t from = order[static_cast<size_t>(i)];
        std::copy_n(call.A.begin() + from * call.d_in, call.d_in, permuted.A.begin() + i * call.d_in);
        std::copy_n(call.W_r.begin() + from * call.d_in, call.d_in, permuted.W_r.begin() + i * call.d_in);
        permuted.bias[static_cast<size_t>(i)] = call.bias[static_cast<size_t>(from)];
        for (int64_t o = 0; o < call.d_out; ++o) {
            permuted.B[static_cast<size_t>(o * call.r + i)] = call.B[static_cast<size_t>(o * call.r + from)];
        }
    }
    expect_near(rank_lora_forward(permuted).y, rank_lora_forward(call).y, 1e-12, "y");
}

}  // namespace
}  // namespace moek::reference
