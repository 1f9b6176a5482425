// The op `gate` against its reference, hand vectors, finite differences and identities.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/gate_case.hpp"

namespace moek::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Rounding points of the gate: every operation in the accumulator type, one rounding of dlogits to the storage type.
// A weight is a quotient of sums of exponentials of differences; its relative error is a small multiple of the
// accumulator's epsilon times the largest exponent (about 15 in these tests).
double accumulator_tolerance(int32_t dtype) {
    return 64 * epsilon(accumulator_dtype(dtype));
}
double storage_tolerance(int32_t dtype) {
    return accumulator_tolerance(dtype) + (dtype == accumulator_dtype(dtype) ? 0 : epsilon(dtype) / 2);
}

double largest(const std::vector<double>& values) {
    double result = 0;
    for (double value : values) result = std::max(result, std::fabs(value));
    return result;
}

void expect_forward_matches(const GateCase& gate, const reference::GateOutput& expected) {
    const double tolerance = accumulator_tolerance(gate.args.logits_dtype);
    if (gate.args.select == MOEK_GATE_SELECT_TOP_K) {
        ASSERT_EQ(gate.ids.values(), expected.ids);
        EXPECT_EQ(gate.counts.values(), expected.counts);
    }
    EXPECT_TRUE(near(gate.weights, expected.weights, tolerance, tolerance * largest(expected.weights)));
    EXPECT_TRUE(near(gate.lse, expected.lse, tolerance, tolerance));
}

void expect_backward_matches(Random& random, GateCase& gate, const reference::GateOutput& saved, moek_context* context,
                             bool with_dlse) {
    const int32_t dtype = gate.args.logits_dtype;
    gate.dweights.assign(random.normals(gate.args.T * gate.args.k));
    gate.dlse.assign(random.normals(gate.args.T));
    if (!with_dlse) gate.args.dlse = nullptr;
    ASSERT_EQ(gate.backward(context), MOEK_STATUS_CODE_OK) << last_error();
    const std::vector<double> expected = reference::gate_backward(
        gate.reference, saved, gate.dweights.values(), with_dlse ? gate.dlse.values() : std::vector<double>());
    EXPECT_TRUE(near(gate.dlogits, expected, storage_tolerance(dtype),
                     4 * accumulator_tolerance(dtype) * (1 + largest(expected))));
}

struct Shape {
    int64_t T, E, k;
};

class GateGrid : public testing::TestWithParam<int32_t> {};

TEST_P(GateGrid, EqualsTheReference) {
    const int32_t dtype = GetParam();
    Random random;
    const Shape shapes[] = {{1, 1, 1},  {5, 2, 1},   {3, 3, 3},  {7, 7, 2},   {4, 8, 8},   {2, 15, 4},   {3, 16, 16},
                            {5, 17, 5}, {2, 33, 33}, {9, 64, 8}, {3, 65, 40}, {2, 130, 7}, {2, 257, 33}, {1, 1000, 6}};
    for (int32_t isa : available_isas()) {
        const Context context(2, isa);
        for (const Shape& shape : shapes) {
            for (const GateConfig& config : all_gate_configs()) {
                const int64_t k = config.select == MOEK_GATE_SELECT_ALL ? shape.E : shape.k;
                SCOPED_TRACE("isa " + std::to_string(isa) + " T " + std::to_string(shape.T) + " E " +
                             std::to_string(shape.E) + " k " + std::to_string(k) + " " + describe(config));
                const std::vector<double> bias = random_bias(random, config, shape.E);
                GateCase gate(config, dtype, shape.T, shape.E, k,
                              random_logits(random, config, dtype, shape.T, shape.E, k, bias), bias);
                ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK) << last_error();
                const reference::GateOutput expected = reference::gate_forward(gate.reference);
                expect_forward_matches(gate, expected);
                expect_backward_matches(random, gate, expected, context, config.eps != 0);
                if (HasFailure()) return;
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, GateGrid,
                         testing::ValuesIn(on_this_device({MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F16,
                                                           MOEK_DTYPE_F64})),
                         [](const auto& dtype) { return std::string(dtype_name(dtype.param)); });

// Many rows, so that the work is cut into blocks, and numbers of experts up to the largest.
TEST(Gate, EqualsTheReferenceOverManyBlocks) {
    Random random;
    const Context context(3);
    for (const Shape& shape :
         {Shape{1037, 64, 8}, Shape{5, 1500, 6}, Shape{37, MOEK_MAX_EXPERTS, 8}, Shape{3, MOEK_MAX_EXPERTS, 300}}) {
        GateConfig config;
        config.normalize = MOEK_GATE_NORMALIZE_SUM_TO_ONE;
        GateCase gate(config, MOEK_DTYPE_F32, shape.T, shape.E, shape.k,
                      random_logits(random, config, MOEK_DTYPE_F32, shape.T, shape.E, shape.k, {}), {});
        ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK) << last_error();
        const reference::GateOutput expected = reference::gate_forward(gate.reference);
        expect_forward_matches(gate, expected);
        expect_backward_matches(random, gate, expected, context, true);
    }
}

// Every number of experts around the sizes of registers and of the forms, groups of rows that are not full, and rows of
// all kinds side by side.
TEST(Gate, EqualsTheReferenceForEveryNumberOfExperts) {
    Random random;
    std::vector<int64_t> sizes(34);
    std::iota(sizes.begin(), sizes.end(), 1);
    sizes.insert(sizes.end(), {47, 48, 63, 64, 65});
    const std::vector<GateConfig> configs = all_gate_configs();
    size_t turn = 0;
    for (int64_t E : sizes) {
        for (int64_t k : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{4}, int64_t{7}, int64_t{8}, int64_t{9}, E}) {
            if (k > E) continue;
            for (int i = 0; i < 6; ++i) {
                GateConfig config = configs[turn++ % configs.size()];
                if (k != E) config.select = MOEK_GATE_SELECT_TOP_K;
                const int64_t T = random.integer(1, 50);
                const std::vector<double> bias = random_bias(random, config, E);
                std::vector<double> logits = random_logits(random, config, MOEK_DTYPE_F32, T, E, k, bias);
                for (int64_t t = 0; t < T && bias.empty(); ++t) {
                    // Ties, masked experts and dead rows; an infinity has a test of its own.
                    if (random.integer(0, 2) != 0) continue;
                    const int64_t kind = random.integer(0, 3);
                    for (int64_t e = 0; e < E; ++e) {
                        const double drawn = static_cast<double>(random.integer(1, 4));
                        const double kinds[] = {drawn, drawn > 2 ? kNan : drawn, drawn > 1 ? -kInfinity : 1.0, kNan};
                        logits[static_cast<size_t>(t * E + e)] = kinds[kind];
                    }
                }
                for (int32_t isa : available_isas()) {
                    SCOPED_TRACE("isa " + std::to_string(isa) + " T " + std::to_string(T) + " E " + std::to_string(E) +
                                 " k " + std::to_string(k) + " " + describe(config));
                    const Context context(2, isa);
                    GateCase gate(config, MOEK_DTYPE_F32, T, E, k, logits, bias);
                    ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK) << last_error();
                    const reference::GateOutput expected = reference::gate_forward(gate.reference);
                    expect_forward_matches(gate, expected);
                    expect_backward_matches(random, gate, expected, context, turn % 2 == 0);
                    if (HasFailure()) return;
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Finite differences: a check that does not trust the reference's gradient.
// ---------------------------------------------------------------------------------------------------------------------

TEST(Gate, GradientEqualsFiniteDifferences) {
    Random random;
    const Context context(1);
    const int64_t T = 2, E = 6;
    for (const GateConfig& config : all_gate_configs()) {
        SCOPED_TRACE(describe(config));
        const int64_t k = config.select == MOEK_GATE_SELECT_ALL ? E : 3;
        const std::vector<double> bias = random_bias(random, config, E);
        std::vector<double> logits;
        do {
            logits = random_logits(random, config, finest_dtype(), T, E, k, bias);
        } while (reference::gate_selection_margin(GateCase(config, finest_dtype(), T, E, k, logits, bias).reference) <
                 1e-3);
        GateCase gate(config, finest_dtype(), T, E, k, logits, bias);
        gate.dweights.assign(random.normals(T * k));
        gate.dlse.assign(random.normals(T));
        ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK) << last_error();
        ASSERT_EQ(gate.backward(context), MOEK_STATUS_CODE_OK) << last_error();

        const auto loss = [&](int64_t element, double step) {
            std::vector<double> moved = logits;
            moved[static_cast<size_t>(element)] += step;
            GateCase other(config, finest_dtype(), T, E, k, moved, bias);
            EXPECT_EQ(other.forward(context), MOEK_STATUS_CODE_OK);
            double sum = 0;
            for (int64_t t = 0; t < T; ++t) {
                for (int64_t j = 0; j < k; ++j) sum += other.weights.at(t, j) * gate.dweights.at(t, j);
                sum += other.lse.at(0, t) * gate.dlse.at(0, t);
            }
            return sum;
        };
        for (int64_t i = 0; i < T * E; ++i) {
            const double h = 1e-4;
            // Fourth-order central difference.
            const double expected = (8 * (loss(i, h) - loss(i, -h)) - (loss(i, 2 * h) - loss(i, -2 * h))) / (12 * h);
            EXPECT_NEAR(gate.dlogits.at(i / E, i % E), expected, 1e-9 * (1 + std::fabs(expected))) << i;
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Hand vectors
// ---------------------------------------------------------------------------------------------------------------------

TEST(Gate, HandVectorOfSmora) {
    // logits (0.0, -1.1, 0.9) are W_r x; s = sigmoid + bias = (0.5, 0.2597398944, 0.7110585786).
    GateConfig config;
    config.score = MOEK_GATE_SCORE_SIGMOID;
    config.bias_mode = MOEK_BIAS_MODE_WEIGHT;
    config.normalize = MOEK_GATE_NORMALIZE_SUM_TO_K;
    const std::vector<double> bias = {0, 0.01, -0.02};
    const double z2 = 1.0;
    GateCase gate(config, finest_dtype(), 1, 3, 2, {0.0, -1.1, z2}, bias);
    const Context context;
    ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_EQ(gate.ids.values(), (std::vector<int32_t>{2, 0}));
    EXPECT_NEAR(gate.weights.at(0, 0), 1.1742761105, fine(1e-10));
    EXPECT_NEAR(gate.weights.at(0, 1), 0.8257238895, fine(1e-10));
    EXPECT_EQ(gate.counts.values(), (std::vector<int32_t>{1, 0, 1}));

    // dz = dW_r / x of the vector, from dgates = u dh with u = (2, 1) and dh = q B[:, ids].(1, 1) = (8, 2).
    gate.dweights.assign({16, 2});
    gate.args.dlse = nullptr;
    ASSERT_EQ(gate.backward(context), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_NEAR(gate.dlogits.at(0, 2), 1.8767551162, fine(1e-9));
    EXPECT_NEAR(gate.dlogits.at(0, 0), -3.3936974306, fine(1e-9));
    EXPECT_EQ(gate.dlogits.at(0, 1), 0);
}

TEST(Gate, SelectionBiasChoosesButDoesNotWeigh) {
    GateConfig config;
    config.score = MOEK_GATE_SCORE_SIGMOID;
    config.bias_mode = MOEK_BIAS_MODE_SELECTION;
    GateCase gate(config, finest_dtype(), 1, 3, 1, {0, 1, 2}, {10, 0, 0});
    ASSERT_EQ(gate.forward(Context()), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_EQ(gate.ids.at(0, 0), 0);
    EXPECT_DOUBLE_EQ(gate.weights.at(0, 0), 0.5);
}

// ---------------------------------------------------------------------------------------------------------------------
// Ties, NaN, infinities, sums that vanish
// ---------------------------------------------------------------------------------------------------------------------

struct RowResult {
    std::vector<int32_t> ids;
    std::vector<double> weights;
    double lse;
    std::vector<double> dlogits;  // for dweights = 1, 2, 3, ... and dlse = 0.5
};

RowResult run_row_on(moek_context* context, const GateConfig& config, int64_t k, const std::vector<double>& logits,
                     const std::vector<double>& bias, int32_t dtype) {
    GateCase gate(config, dtype, 1, static_cast<int64_t>(logits.size()), k, logits, bias);
    EXPECT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK) << last_error();
    std::vector<double> dweights(static_cast<size_t>(k));
    std::iota(dweights.begin(), dweights.end(), 1);
    gate.dweights.assign(dweights);
    gate.dlse.fill(0.5);
    EXPECT_EQ(gate.backward(context), MOEK_STATUS_CODE_OK) << last_error();
    return {gate.ids.values(), gate.weights.values(), gate.lse.at(0, 0), gate.dlogits.values()};
}

void expect_near(const std::vector<double>& got, const std::vector<double>& expected, double tolerance) {
    for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_TRUE(got[i] == expected[i] || std::fabs(got[i] - expected[i]) <= tolerance * (1 + largest(expected)))
            << "at " << i << ": got " << got[i] << ", expected " << expected[i];
    }
}

// The row on the best instruction set; the others must agree, and so must both ways of computing it: experts that are
// masked change nothing, so with enough of them behind it a short row goes the way of a long one.
RowResult run_row(const GateConfig& config, int64_t k, const std::vector<double>& logits,
                  const std::vector<double>& bias = {}, int32_t dtype = MOEK_DTYPE_F32) {
    const RowResult result = run_row_on(Context(1), config, k, logits, bias, dtype);
    const double tolerance = 4 * storage_tolerance(dtype);
    for (const bool is_long : {false, true}) {
        if (is_long && config.select == MOEK_GATE_SELECT_ALL) continue;
        std::vector<double> long_logits = logits;
        std::vector<double> long_bias = bias;
        if (is_long) long_logits.resize(logits.size() + 100, -kInfinity);
        if (is_long && !bias.empty()) long_bias.resize(long_logits.size(), 0.25);
        for (int32_t isa : available_isas()) {
            SCOPED_TRACE("isa " + std::to_string(isa) + (is_long ? " long" : ""));
            const RowResult other = run_row_on(Context(1, isa), config, k, long_logits, long_bias, dtype);
            EXPECT_EQ(other.ids, result.ids);
            expect_near(other.weights, result.weights, tolerance);
            expect_near({other.lse}, {result.lse}, tolerance);
            expect_near(other.dlogits, result.dlogits, tolerance);
            for (size_t e = logits.size(); e < long_logits.size(); ++e) EXPECT_EQ(other.dlogits[e], 0);
        }
    }
    return result;
}

TEST(GateEdges, EqualScoresGoToTheLowerId) {
    for (int64_t k : {1, 3, 40}) {  // 40 takes the path for large k
        std::vector<double> logits(64, 1.5);
        std::vector<int32_t> expected(static_cast<size_t>(k));
        std::iota(expected.begin(), expected.end(), 0);
        EXPECT_EQ(run_row({}, k, logits).ids, expected);
        logits[50] = 2;
        logits[60] = 2;
        std::vector<int32_t> with_two = {50, 60};
        for (int32_t id = 0; static_cast<int64_t>(with_two.size()) < k; ++id) with_two.push_back(id);
        with_two.resize(static_cast<size_t>(k));
        EXPECT_EQ(run_row({}, k, logits).ids, with_two);
    }
    EXPECT_EQ(run_row({}, 2, {-0.0, 0.0, -1.0}).ids, (std::vector<int32_t>{0, 1}));
    EXPECT_EQ(run_row({}, 2, {0.0, -0.0, -1.0}).ids, (std::vector<int32_t>{0, 1}));
}

// Orders and ties that a selection by thresholds, lists or heaps could get wrong, around the sizes where they change.
TEST(GateEdges, AnyOrderAndAnyTiesSelectLikeAStableSort) {
    Random random;
    for (int64_t E : {1, 16, 24, 25, 31, 32, 33, 64, 65, 100, 128, 129, 256, 600}) {
        for (int64_t k : {1, 2, 8, 9, 16, 17, 32, 33, 100}) {
            if (k > E) continue;
            for (int pattern = 0; pattern < 7; ++pattern) {
                std::vector<double> logits(static_cast<size_t>(E));
                for (int64_t e = 0; e < E; ++e) {
                    const double place = static_cast<double>(e);
                    const double patterns[] = {1.0,
                                               place,
                                               -place,
                                               static_cast<double>(random.integer(-1, 1)),
                                               static_cast<double>(random.integer(-20, 20)),
                                               e % 16 == 3 ? place : -place,
                                               random.integer(0, 3) == 0 ? random.normal() : -kInfinity};
                    logits[static_cast<size_t>(e)] = patterns[pattern];
                }
                for (int32_t isa : available_isas()) {
                    GateCase gate({}, MOEK_DTYPE_F32, 1, E, k, logits, {});
                    ASSERT_EQ(gate.forward(Context(1, isa)), MOEK_STATUS_CODE_OK) << last_error();
                    ASSERT_EQ(gate.ids.values(), reference::gate_forward(gate.reference).ids)
                        << "E " << E << " k " << k << " pattern " << pattern << " isa " << isa;
                }
            }
        }
    }
}

TEST(GateEdges, UnderflowingAndSaturatedScoresStillOrder) {
    GateConfig config;
    EXPECT_EQ(run_row(config, 3, {0, -300, -200, 5}).ids, (std::vector<int32_t>{3, 0, 2}));
    config.score = MOEK_GATE_SCORE_SIGMOID;
    EXPECT_EQ(run_row(config, 2, {30, 40, 50}).ids, (std::vector<int32_t>{2, 1}));
}

TEST(GateEdges, NanAndMinusInfinityNeverWinAndWeighNothing) {
    for (const GateConfig& config : all_gate_configs()) {
        if (config.select == MOEK_GATE_SELECT_ALL) continue;
        SCOPED_TRACE(describe(config));
        const bool biased = config.bias_mode != MOEK_BIAS_MODE_NONE;
        // The masked experts have the largest biases.
        const std::vector<double> bias = biased ? std::vector<double>{9, 0.25, 9, 0.125} : std::vector<double>();
        const RowResult row = run_row(config, 4, {kNan, 1, -kInfinity, 0.5}, bias);
        EXPECT_EQ(row.ids, (std::vector<int32_t>{1, 3, 0, 2}));
        EXPECT_GT(row.weights[0], 0);
        EXPECT_GT(row.weights[1], 0);
        EXPECT_EQ(row.weights[2], 0);
        EXPECT_EQ(row.weights[3], 0);
        EXPECT_EQ(row.dlogits[0], 0);
        EXPECT_EQ(row.dlogits[2], 0);
        EXPECT_NEAR(row.lse, std::log(std::exp(1 / config.temperature) + std::exp(0.5 / config.temperature)), 1e-5);
        for (double gradient : row.dlogits) EXPECT_TRUE(std::isfinite(gradient));
    }
}

TEST(GateEdges, DeadRowsHaveZeroWeightsAndGradientsAndDistinctIds) {
    for (const GateConfig& config : all_gate_configs()) {
        SCOPED_TRACE(describe(config));
        const bool all = config.select == MOEK_GATE_SELECT_ALL;
        const bool biased = config.bias_mode != MOEK_BIAS_MODE_NONE;
        const std::vector<double> bias = biased ? std::vector<double>{0, 1, 2} : std::vector<double>();
        const int64_t k = all ? 3 : 2;
        const RowResult row = run_row(config, k, {kNan, -kInfinity, kNan}, bias);
        if (!all) {
            EXPECT_EQ(row.ids, (std::vector<int32_t>{0, 1}));
        }
        EXPECT_EQ(row.weights, std::vector<double>(static_cast<size_t>(k), 0.0));
        EXPECT_EQ(row.dlogits, std::vector<double>(3, 0.0));
        EXPECT_EQ(row.lse, -kInfinity);
    }
}

TEST(GateEdges, ABiasOfMinusInfinityOrNanMasks) {
    for (moek_bias_mode mode : {MOEK_BIAS_MODE_SELECTION, MOEK_BIAS_MODE_WEIGHT}) {
        for (int score = 0; score < 3; ++score) {
            GateConfig config;
            config.score = static_cast<moek_gate_score>(score);
            config.bias_mode = mode;
            config.normalize = MOEK_GATE_NORMALIZE_SUM_TO_ONE;
            const RowResult row = run_row(config, 3, {5, 1, 5, 0.5}, {-kInfinity, 0, kNan, 0});
            EXPECT_EQ(row.ids, (std::vector<int32_t>{1, 3, 0}));
            EXPECT_EQ(row.weights[2], 0);
            EXPECT_NEAR(row.weights[0] + row.weights[1], 1, 1e-6);
            for (double gradient : row.dlogits) EXPECT_TRUE(std::isfinite(gradient));
        }
    }
}

TEST(GateEdges, InfiniteLogitsShareTheMass) {
    for (int32_t dtype : on_this_device({MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F16, MOEK_DTYPE_F64})) {
        const std::vector<double> logits = {1, kInfinity, 2, kInfinity, kNan};
        GateConfig config;
        const RowResult raw = run_row(config, 3, logits, {}, dtype);
        EXPECT_EQ(raw.ids, (std::vector<int32_t>{1, 3, 2}));
        EXPECT_EQ(raw.weights, (std::vector<double>{0.5, 0.5, 0}));
        EXPECT_EQ(raw.lse, kInfinity);
        for (double gradient : raw.dlogits) EXPECT_TRUE(std::isfinite(gradient));

        for (int score : {0, 2}) {
            config.score = static_cast<moek_gate_score>(score);
            config.normalize = MOEK_GATE_NORMALIZE_SUM_TO_ONE;
            const RowResult shared = run_row(config, 3, logits, {}, dtype);
            EXPECT_EQ(shared.weights, (std::vector<double>{0.5, 0.5, 0}));
            for (double gradient : shared.dlogits) EXPECT_TRUE(std::isfinite(gradient));
        }
    }
}

TEST(GateEdges, FiniteScoresWhoseSumOverflowsAreNormalised) {
    GateConfig config;
    config.score = MOEK_GATE_SCORE_IDENTITY;
    config.normalize = MOEK_GATE_NORMALIZE_SUM_TO_ONE;
    EXPECT_EQ(run_row(config, 2, {3e38, 3e38, 1}).weights, (std::vector<double>{0.5, 0.5}));
}

TEST(GateEdges, TinyProbabilitiesChosenByTheBiasKeepTheirRatio) {
    // The bias forces the two experts whose probabilities underflow in single precision.
    GateConfig config;
    config.bias_mode = MOEK_BIAS_MODE_SELECTION;
    config.normalize = MOEK_GATE_NORMALIZE_SUM_TO_ONE;
    const RowResult row = run_row(config, 2, {0, -200, -201}, {-5, 1, 0});
    EXPECT_EQ(row.ids, (std::vector<int32_t>{1, 2}));
    EXPECT_NEAR(row.weights[0], 1 / (1 + std::exp(-1.0)), 1e-6);
    EXPECT_NEAR(row.weights[1], 1 / (1 + std::exp(1.0)), 1e-6);
}

TEST(GateEdges, AnInfiniteLogitThatIsNotSelectedLeavesNothing) {
    GateConfig config;
    config.bias_mode = MOEK_BIAS_MODE_SELECTION;
    config.normalize = MOEK_GATE_NORMALIZE_SUM_TO_ONE;
    const RowResult row = run_row(config, 2, {kInfinity, 1, 2}, {-5, 1, 1});
    EXPECT_EQ(row.ids, (std::vector<int32_t>{1, 2}));
    EXPECT_EQ(row.weights, (std::vector<double>{0, 0}));
    for (double gradient : row.dlogits) EXPECT_TRUE(std::isfinite(gradient));
}

TEST(GateEdges, TheGradientToAMaskedExpertsWeightIsIgnored) {
    for (const GateConfig& config : all_gate_configs()) {
        if (config.select == MOEK_GATE_SELECT_ALL || config.bias_mode != MOEK_BIAS_MODE_NONE) continue;
        SCOPED_TRACE(describe(config));
        GateCase gate(config, MOEK_DTYPE_F32, 1, 3, 3, {1, kNan, 2}, {});
        const Context context(1);
        ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK);
        ASSERT_EQ(gate.ids.values(), (std::vector<int32_t>{2, 0, 1}));
        gate.dweights.assign({1, 2, kNan});
        gate.dlse.fill(0);
        ASSERT_EQ(gate.backward(context), MOEK_STATUS_CODE_OK);
        for (double gradient : gate.dlogits.values()) EXPECT_TRUE(std::isfinite(gradient));
    }
}

TEST(GateEdges, NegativeSumsKeepTheirSigns) {
    GateConfig config;
    config.score = MOEK_GATE_SCORE_SIGMOID;
    config.bias_mode = MOEK_BIAS_MODE_WEIGHT;
    config.normalize = MOEK_GATE_NORMALIZE_SUM_TO_K;
    // Scores 0.25, -0.75: the sum is -0.5, so w = 2 * (0.25, -0.75) / -0.5.
    const RowResult row = run_row(config, 2, {0, 0}, {-0.25, -1.25});
    EXPECT_EQ(row.ids, (std::vector<int32_t>{0, 1}));
    EXPECT_EQ(row.weights, (std::vector<double>{-1, 3}));
}

TEST(GateEdges, ASumOfZeroGivesZeroWeightsAndGradients) {
    GateConfig config;
    config.score = MOEK_GATE_SCORE_IDENTITY;
    config.normalize = MOEK_GATE_NORMALIZE_SUM_TO_ONE;
    for (const std::vector<double>& logits : {std::vector<double>{1, -1}, std::vector<double>{0, 0}}) {
        GateCase gate(config, MOEK_DTYPE_F32, 1, 2, 2, logits, {});
        const Context context;
        ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK);
        EXPECT_EQ(gate.weights.values(), (std::vector<double>{0, 0}));
        gate.args.dlse = nullptr;
        gate.dweights.assign({1, 2});
        ASSERT_EQ(gate.backward(context), MOEK_STATUS_CODE_OK);
        EXPECT_EQ(gate.dlogits.values(), (std::vector<double>{0, 0}));
    }
    // The same when eps cancels the sum.
    config.eps = 1;
    EXPECT_EQ(run_row(config, 1, {-1, -2}).weights, (std::vector<double>{0}));
}

TEST(GateEdges, StrictReportsNanAndWritesNothing) {
    for (int32_t dtype : on_this_device({MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F16, MOEK_DTYPE_F64})) {
        std::vector<double> logits(700 * 8, 0.5);
        logits[600 * 8 + 3] = kNan;
        logits[300 * 8 + 7] = kNan;
        GateCase gate({}, dtype, 700, 8, 2, logits, {});
        gate.args.flags = MOEK_CALL_FLAG_STRICT;
        gate.counts.fill(7);
        const Context context;
        MOEK_EXPECT_ERROR(gate.forward(context), MOEK_STATUS_CODE_NUMERIC, "NaN in row 300");
        for (double weight : gate.weights.values()) ASSERT_TRUE(std::isnan(weight));
        for (int32_t id : gate.ids.values()) ASSERT_EQ(id, IntTensor::kPoison);
        for (int32_t count : gate.counts.values()) ASSERT_EQ(count, 7);
        gate.ids.fill(0);
        gate.dweights.fill(1);
        gate.dlse.fill(1);
        MOEK_EXPECT_ERROR(gate.backward(context), MOEK_STATUS_CODE_NUMERIC, "NaN in row 300");
        for (double gradient : gate.dlogits.values()) ASSERT_TRUE(std::isnan(gradient));
    }
    GateConfig config;
    config.bias_mode = MOEK_BIAS_MODE_SELECTION;
    GateCase gate(config, MOEK_DTYPE_F32, 1, 2, 1, {0, 1}, {0, kNan});
    gate.args.flags = MOEK_CALL_FLAG_STRICT;
    MOEK_EXPECT_ERROR(gate.forward(Context()), MOEK_STATUS_CODE_NUMERIC, "bias: got a NaN");
    // Infinities are no NaN.
    GateCase infinite({}, MOEK_DTYPE_F32, 1, 2, 1, {kInfinity, -kInfinity}, {});
    infinite.args.flags = MOEK_CALL_FLAG_STRICT;
    EXPECT_EQ(infinite.forward(Context()), MOEK_STATUS_CODE_OK);
}

// ---------------------------------------------------------------------------------------------------------------------
// Identities
// ---------------------------------------------------------------------------------------------------------------------

TEST(GateIdentity, SoftmaxThenTopKThenRenormaliseIsTopKThenSoftmax) {
    Random random;
    GateConfig config;
    config.normalize = MOEK_GATE_NORMALIZE_SUM_TO_ONE;
    const int64_t E = 20, k = 5;
    const std::vector<double> logits = random.normals(E, 3);
    const RowResult row = run_row(config, k, logits, {}, finest_dtype());
    std::vector<double> chosen;
    for (int32_t id : row.ids) chosen.push_back(logits[static_cast<size_t>(id)]);
    GateConfig dense;
    dense.select = MOEK_GATE_SELECT_ALL;
    const RowResult softmax = run_row(dense, k, chosen, {}, finest_dtype());
    for (size_t j = 0; j < static_cast<size_t>(k); ++j) EXPECT_NEAR(row.weights[j], softmax.weights[j], fine(1e-14));
}

TEST(GateIdentity, ShiftedLogitsGiveTheSameSoftmaxGate) {
    Random random;
    for (int normalize = 0; normalize < 3; ++normalize) {
        GateConfig config;
        config.normalize = static_cast<moek_gate_normalize>(normalize);
        const std::vector<double> logits = random.normals(12);
        std::vector<double> shifted = logits;
        for (double& value : shifted) value += 100;
        const RowResult a = run_row(config, 4, logits, {}, finest_dtype());
        const RowResult b = run_row(config, 4, shifted, {}, finest_dtype());
        EXPECT_EQ(a.ids, b.ids);
        for (size_t j = 0; j < 4; ++j) EXPECT_NEAR(a.weights[j], b.weights[j], fine(1e-12));
        EXPECT_NEAR(a.lse + 100, b.lse, fine(1e-12));
        // So the gradient of the weights sums to zero; lse adds its own 0.5.
        EXPECT_NEAR(std::accumulate(a.dlogits.begin(), a.dlogits.end(), 0.0), 0.5, fine(1e-12));
    }
}

TEST(GateIdentity, PermutedExpertsGivePermutedIds) {
    Random random;
    for (const GateConfig& config : all_gate_configs()) {
        if (config.select == MOEK_GATE_SELECT_ALL) continue;
        SCOPED_TRACE(describe(config));
        const size_t E = 9;
        std::vector<size_t> permutation(E);
        std::iota(permutation.begin(), permutation.end(), size_t{0});
        std::shuffle(permutation.begin(), permutation.end(), random.engine());
        const std::vector<double> bias = random_bias(random, config, static_cast<int64_t>(E));
        const std::vector<double> logits =
            random_logits(random, config, finest_dtype(), 1, static_cast<int64_t>(E), 3, bias);
        std::vector<double> moved_logits(E), moved_bias(bias.size());
        for (size_t e = 0; e < E; ++e) {
            moved_logits[permutation[e]] = logits[e];
            if (!bias.empty()) moved_bias[permutation[e]] = bias[e];
        }
        const RowResult a = run_row(config, 3, logits, bias, finest_dtype());
        const RowResult b = run_row(config, 3, moved_logits, moved_bias, finest_dtype());
        for (size_t j = 0; j < 3; ++j) {
            EXPECT_EQ(static_cast<size_t>(b.ids[j]), permutation[static_cast<size_t>(a.ids[j])]);
            EXPECT_NEAR(a.weights[j], b.weights[j], fine(1e-13));
        }
        for (size_t e = 0; e < E; ++e) EXPECT_NEAR(a.dlogits[e], b.dlogits[permutation[e]], fine(1e-13));
    }
}

TEST(GateIdentity, OneRenormalisedExpertWeighsExactlyOneAndGetsNoGradient) {
    Random random;
    for (int32_t dtype : on_this_device({MOEK_DTYPE_F32, MOEK_DTYPE_F64})) {
        for (const GateConfig& config : all_gate_configs()) {
            if (config.select == MOEK_GATE_SELECT_ALL || config.normalize == MOEK_GATE_NORMALIZE_NONE) continue;
            // With eps, or with a bias in a softmax weight, the weight still depends on the logit.
            if (config.eps != 0) continue;
            SCOPED_TRACE(describe(config));
            const std::vector<double> bias = random_bias(random, config, 8);
            GateCase gate(config, dtype, 1, 8, 1, random_logits(random, config, dtype, 1, 8, 1, bias), bias);
            const Context context;
            ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK);
            EXPECT_EQ(gate.weights.at(0, 0), 1);
            gate.dweights.fill(3.7);
            gate.args.dlse = nullptr;
            ASSERT_EQ(gate.backward(context), MOEK_STATUS_CODE_OK);
            EXPECT_EQ(gate.dlogits.values(), std::vector<double>(8, 0.0));
        }
    }
}

TEST(GateIdentity, AllExpertsEqualTopKOfAllInOrder) {
    Random random;
    for (const GateConfig& config : all_gate_configs()) {
        if (config.select == MOEK_GATE_SELECT_ALL) continue;
        SCOPED_TRACE(describe(config));
        const int64_t E = 7;
        const std::vector<double> bias = random_bias(random, config, E);
        const std::vector<double> logits = random_logits(random, config, finest_dtype(), 1, E, E, bias);
        GateConfig dense = config;
        dense.select = MOEK_GATE_SELECT_ALL;
        const RowResult sparse = run_row(config, E, logits, bias, finest_dtype());
        const RowResult all = run_row(dense, E, logits, bias, finest_dtype());
        for (size_t j = 0; j < static_cast<size_t>(E); ++j) {
            EXPECT_NEAR(sparse.weights[j], all.weights[static_cast<size_t>(sparse.ids[j])], fine(1e-14));
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Flags, optional tensors, empty calls
// ---------------------------------------------------------------------------------------------------------------------

TEST(GateFlags, CountsAccumulateOrAreOverwritten) {
    GateCase gate({}, MOEK_DTYPE_F32, 2, 3, 1, {0, 1, 2, 5, 4, 3}, {});
    const Context context;
    gate.counts.fill(10);
    ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(gate.counts.values(), (std::vector<int32_t>{1, 0, 1}));
    gate.args.flags = MOEK_CALL_FLAG_ACCUMULATE_COUNTS;
    ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(gate.counts.values(), (std::vector<int32_t>{2, 0, 2}));
}

TEST(GateFlags, GradientsAccumulateWithOneRounding) {
    Random random;
    for (int32_t dtype : on_this_device({MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F16, MOEK_DTYPE_F64})) {
        const int64_t T = 3, E = 9;
        GateCase gate({}, dtype, T, E, 2, random.normals(T * E), {});
        const Context context;
        ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK);
        gate.dweights.assign(random.normals(T * 2));
        gate.dlse.assign(random.normals(T));
        gate.dlogits.assign(random.normals(T * E));
        const std::vector<double> before = gate.dlogits.values();
        std::vector<double> expected = reference::gate_backward(gate.reference, reference::gate_forward(gate.reference),
                                                                gate.dweights.values(), gate.dlse.values());
        for (size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];
        gate.args.flags = MOEK_CALL_FLAG_ACCUMULATE_OUTPUT;
        ASSERT_EQ(gate.backward(context), MOEK_STATUS_CODE_OK);
        EXPECT_TRUE(near(gate.dlogits, expected, storage_tolerance(dtype), 4 * accumulator_tolerance(dtype)));
    }
}

TEST(GateFlags, OptionalOutputsMayBeMissing) {
    Random random;
    GateCase whole({}, MOEK_DTYPE_F32, 5, 16, 3, random.normals(5 * 16), {});
    GateCase part({}, MOEK_DTYPE_F32, 5, 16, 3, whole.reference.logits, {});
    part.args.counts = nullptr;
    part.args.lse = nullptr;
    const Context context;
    ASSERT_EQ(whole.forward(context), MOEK_STATUS_CODE_OK);
    ASSERT_EQ(part.forward(context), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(whole.ids.values(), part.ids.values());
    EXPECT_TRUE(whole.weights.same_bits(part.weights));
    EXPECT_EQ(part.counts.at(0, 0), IntTensor::kPoison);
    EXPECT_TRUE(std::isnan(part.lse.at(0, 0)));
}

TEST(GateFlags, NoTokensWriteCountsOnly) {
    GateCase gate({}, MOEK_DTYPE_F32, 0, 4, 2, {}, {});
    // What a caller with empty arrays passes.
    gate.args.logits = gate.args.ids = gate.args.weights = gate.args.lse = nullptr;
    gate.args.dweights = gate.args.dlse = gate.args.dlogits = nullptr;
    const Context context;
    ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_EQ(gate.counts.values(), (std::vector<int32_t>{0, 0, 0, 0}));
    gate.args.flags = MOEK_CALL_FLAG_ACCUMULATE_COUNTS;
    gate.counts.fill(3);
    ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(gate.counts.values(), (std::vector<int32_t>{3, 3, 3, 3}));
    EXPECT_EQ(gate.backward(context), MOEK_STATUS_CODE_OK) << last_error();
}

TEST(GateFlags, ZeroMeansTheDefault) {
    Random random;
    GateConfig config;
    config.select = MOEK_GATE_SELECT_ALL;
    GateCase stated(config, MOEK_DTYPE_F32, 2, 5, 5, random.normals(10), {}, 0);
    GateCase silent(config, MOEK_DTYPE_F32, 2, 5, 5, stated.reference.logits, {}, 0);
    silent.args.k = 0;
    silent.args.logits_stride = 0;
    silent.args.temperature = 0;
    silent.args.weight_scale = 0;
    const Context context;
    ASSERT_EQ(stated.forward(context), MOEK_STATUS_CODE_OK);
    ASSERT_EQ(silent.forward(context), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_TRUE(stated.weights.same_bits(silent.weights));
}

// ---------------------------------------------------------------------------------------------------------------------
// Determinism and concurrency
// ---------------------------------------------------------------------------------------------------------------------

TEST(GateDeterminism, SameBitsForEveryThreadCount) {
    Random random;
    for (int32_t isa : available_isas()) {
        for (int32_t dtype : on_this_device({MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F64, MOEK_DTYPE_F16})) {
            GateConfig config;
            config.bias_mode = MOEK_BIAS_MODE_SELECTION;
            // One of the dtypes with few experts, so that both forms are cut into blocks.
            const int64_t T = 1500, E = dtype == MOEK_DTYPE_F16 ? 8 : 40, k = 6;
            const std::vector<double> logits = random.normals(T * E);
            const std::vector<double> bias = random_bias(random, config, E);
            const std::vector<double> dweights = random.normals(T * k);
            GateCase first(config, dtype, T, E, k, logits, bias);
            for (int32_t threads : {1, 2, 3, 8}) {
                GateCase gate(config, dtype, T, E, k, logits, bias);
                GateCase& target = threads == 1 ? first : gate;
                const Context context(threads, isa);
                ASSERT_EQ(target.forward(context), MOEK_STATUS_CODE_OK);
                target.dweights.assign(dweights);
                target.dlse.fill(0.25);
                ASSERT_EQ(target.backward(context), MOEK_STATUS_CODE_OK);
                if (threads == 1) continue;
                EXPECT_EQ(gate.ids.values(), first.ids.values());
                EXPECT_EQ(gate.counts.values(), first.counts.values());
                EXPECT_TRUE(gate.weights.same_bits(first.weights));
                EXPECT_TRUE(gate.lse.same_bits(first.lse));
                EXPECT_TRUE(gate.dlogits.same_bits(first.dlogits));
            }
        }
    }
}

TEST(GateDeterminism, ARowDependsOnNothingElse) {
    Random random;
    for (int32_t isa : available_isas()) {
        const Context context(2, isa);
        for (const Shape& shape :
             {Shape{1, 2, 1}, Shape{1, 8, 2}, Shape{1, 16, 5}, Shape{1, 33, 5}, Shape{1, 64, 8}, Shape{1, 70, 8}}) {
            for (const GateConfig& config : all_gate_configs()) {
                // The smallest and the largest of each kind of option.
                if (config.bias_mode == MOEK_BIAS_MODE_WEIGHT || config.normalize == 2) continue;
                const int64_t E = shape.E, k = config.select == MOEK_GATE_SELECT_ALL ? E : shape.k;
                const std::vector<double> bias = random_bias(random, config, E);
                const std::vector<double> row = random.normals(E), dweights = random.normals(k);
                const auto run = [&](GateCase& gate, int64_t place) {
                    gate.args.flags = MOEK_CALL_FLAG_BATCH_INVARIANT;
                    ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK);
                    std::vector<double> all_dweights = random.normals(gate.args.T * k);
                    std::copy(dweights.begin(), dweights.end(), all_dweights.begin() + place * k);
                    gate.dweights.assign(all_dweights);
                    gate.dlse.fill(0.3);
                    ASSERT_EQ(gate.backward(context), MOEK_STATUS_CODE_OK);
                };
                GateCase alone(config, MOEK_DTYPE_F32, 1, E, k, row, bias);
                run(alone, 0);
                for (int64_t T : {2, 16, 45}) {
                    for (int64_t place : {int64_t{0}, T / 2, T - 1}) {
                        SCOPED_TRACE("isa " + std::to_string(isa) + " E " + std::to_string(E) + " T " +
                                     std::to_string(T) + " place " + std::to_string(place) + " " + describe(config));
                        std::vector<double> logits = random.normals(T * E, 3);
                        logits[0] = kNan;
                        logits[static_cast<size_t>(T * E) - 1] = kInfinity;
                        std::copy(row.begin(), row.end(), logits.begin() + place * E);
                        GateCase many(config, MOEK_DTYPE_F32, T, E, k, logits, bias);
                        run(many, place);
                        ASSERT_EQ(many.lse.at(0, place), alone.lse.at(0, 0));
                        for (int64_t j = 0; j < k; ++j) {
                            ASSERT_EQ(many.ids.at(place, j), alone.ids.at(0, j));
                            ASSERT_EQ(many.weights.at(place, j), alone.weights.at(0, j));
                        }
                        for (int64_t e = 0; e < E; ++e) {
                            ASSERT_EQ(many.dlogits.at(place, e), alone.dlogits.at(0, e));
                        }
                    }
                }
            }
        }
    }
}

TEST(GateConcurrency, ManyThreadsShareAContext) {
    Random random;
    const int64_t T = 600, E = 24, k = 4;
    GateCase expected({}, MOEK_DTYPE_F32, T, E, k, random.normals(T * E), {});
    const Context context(3);
    ASSERT_EQ(expected.forward(context), MOEK_STATUS_CODE_OK);
    std::vector<std::thread> threads;
    for (int i = 0; i < 6; ++i) {
        threads.emplace_back([&] {
            for (int round = 0; round < 20; ++round) {
                GateCase gate({}, MOEK_DTYPE_F32, T, E, k, expected.reference.logits, {});
                ASSERT_EQ(gate.forward(context), MOEK_STATUS_CODE_OK);
                ASSERT_EQ(gate.counts.values(), expected.counts.values());
                ASSERT_TRUE(gate.weights.same_bits(expected.weights));
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
}

// ---------------------------------------------------------------------------------------------------------------------
// Load-bias update
// ---------------------------------------------------------------------------------------------------------------------

std::vector<double> updated_bias(moek_gate_bias_update_args args, const std::vector<int32_t>& counts,
                                 const std::vector<double>& bias) {
    const int64_t E = static_cast<int64_t>(counts.size());
    IntTensor count_tensor(1, E, counts);
    Tensor bias_tensor(args.bias_dtype, 1, E, bias);
    args.struct_size = sizeof(args);
    args.E = E;
    args.counts = count_tensor.data();
    args.bias = bias_tensor.data();
    EXPECT_EQ(moek_gate_bias_update(Context(), &args, nullptr), MOEK_STATUS_CODE_OK) << last_error();
    wait_for_device();
    return bias_tensor.values();
}

TEST(GateBiasUpdate, MovesTowardsTheMean) {
    moek_gate_bias_update_args args = {};
    args.rate = 0.25;
    for (int32_t dtype : on_this_device({MOEK_DTYPE_F32, MOEK_DTYPE_F64})) {
        args.bias_dtype = dtype;
        // The mean is 2: too few goes up, too many down, the mean stays.
        EXPECT_EQ(updated_bias(args, {0, 2, 4}, {1, 1, 1}), (std::vector<double>{1.25, 1, 0.75}));
        // A mean between two integers.
        EXPECT_EQ(updated_bias(args, {1, 2}, {0, 0}), (std::vector<double>{0.25, -0.25}));
        EXPECT_EQ(updated_bias(args, {0, 0}, {0.5, 0.5}), (std::vector<double>{0.5, 0.5}));
    }
    const int32_t most = std::numeric_limits<int32_t>::max();
    EXPECT_EQ(updated_bias(args, {most, most, most - 3}, {0, 0, 0}), (std::vector<double>{-0.25, -0.25, 0.25}));
}

TEST(GateBiasUpdate, MovesTowardsAValue) {
    moek_gate_bias_update_args args = {};
    args.bias_dtype = finest_dtype();
    args.target_mode = MOEK_BIAS_TARGET_VALUE;
    args.target = 3.5;
    args.rate = -0.5;
    EXPECT_EQ(updated_bias(args, {3, 4}, {0, 0}), (std::vector<double>{-0.5, 0.5}));
}

}  // namespace
}  // namespace moek::test
