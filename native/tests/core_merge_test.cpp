// core_merge against the reference: every shape class, dtype, router and option, on every instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "tests/support/core_merge_call.hpp"

namespace moek::test {
namespace {

using reference::CoreMerge;
using reference::CoreMergeGradient;
using reference::CoreMergeOutput;
using Values = std::vector<double>;

Values absolute(Values values) {
    for (double& value : values) value = std::fabs(value);
    return values;
}

double largest(const Values& values) {
    double result = 0;
    for (double value : values) result = std::max(result, std::fabs(value));
    return result;
}

// The call with every term of every sum positive: its results bound the sums of absolute values, to which rounding
// errors are proportional. Weights are given, so that no softmax comes between.
CoreMerge absolute_call(CoreMerge call, const Values& p) {
    for (Values* values : {&call.x, &call.A, &call.B, &call.C}) *values = absolute(*values);
    call.scale = std::fabs(call.scale);
    call.router = MOEK_CORE_ROUTER_CALLER;
    call.p = absolute(p);
    call.W_g.clear();
    call.router_input.clear();
    return call;
}

// How far a result may be from the reference: errors of the accumulator dtype, in proportion to the sums they arise
// in, and one rounding when the result is written. A second rounding to a 16-bit dtype would exceed it by far. On tensor
// cores operands are rounded when they are made; a chain of products has up to six of them.
struct Tolerance {
    double sums;  // relative to the largest sum of absolute values
    explicit Tolerance(const CoreMergeCase& c)
        : sums(epsilon(accumulator_dtype(c.dtypes.x)) *
                   (4 + std::sqrt(static_cast<double>(c.d_in + c.d_out + c.r * c.E + c.T))) +
               6 * operand_rounding(c.dtypes.x, c.flags)) {}

    testing::AssertionResult check(const Tensor& got, const Values& expected, const Values& old, double bound) const {
        Values sum = expected;
        for (size_t i = 0; i < old.size(); ++i) sum[i] += old[i];
        const double magnitude = bound + largest(old);
        // f16 has subnormals within reach of small gradients.
        const double smallest = got.dtype() == MOEK_DTYPE_F16 ? 0x1p-24 : 0;
        return near(got, sum, 0.5001 * epsilon(got.dtype()), sums * magnitude + smallest);
    }
};

Values b_gradient(const CoreMergeCase& c, const Values& dB) {
    return c.b_layout == MOEK_B_LAYOUT_RANK_BY_OUT ? transposed(dB, c.d_out, c.r) : dB;
}

void compare_with_reference(const CoreMergeCase& c, moek_context* context, Random& random) {
    SCOPED_TRACE(testing::PrintToString(c));
    CoreMergeCall call(c, random);
    const bool adds_output = (c.flags & MOEK_CALL_FLAG_ACCUMULATE_OUTPUT) != 0;
    const bool adds_gradients = (c.flags & MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS) != 0;
    const auto old_output = [&](const Tensor& t) { return adds_output ? t.values() : Values(); };
    const auto old_gradient = [&](const Tensor& t) { return adds_gradients ? t.values() : Values(); };
    const Values old_y = old_output(call.y), old_dx = old_output(call.dx);
    const Values old_drouter = old_output(call.drouter_input);
    const Values old_dA = old_gradient(call.dA), old_dB = old_gradient(call.dB), old_dC = old_gradient(call.dC);
    const Values old_dW_g = old_gradient(call.dW_g);
    call.expect_both(context);

    const Tolerance tolerance(c);
    CoreMerge expected_call = call.reference_call(context);
    const CoreMergeOutput routed = core_merge_forward(expected_call);
    const CoreMerge positive = absolute_call(expected_call, call.p.values());
    const CoreMergeOutput bound = core_merge_forward(positive);
    const double u_bound = largest(bound.u);
    const double w_bound = largest(expected_call.W_g);
    const auto r = static_cast<double>(c.r), E = static_cast<double>(c.E), T = static_cast<double>(c.T);

    EXPECT_TRUE(tolerance.check(call.u, routed.u, {}, u_bound)) << "u";
    if (c.router != MOEK_CORE_ROUTER_CALLER) {
        const double logit_bound = c.router == MOEK_CORE_ROUTER_CORE
                                       ? r * w_bound * u_bound
                                       : static_cast<double>(c.d_in) * w_bound *
                                             std::max(largest(expected_call.x), largest(expected_call.router_input));
        EXPECT_TRUE(near(call.p, routed.p, 0, tolerance.sums * (1 + 2 * logit_bound / c.temperature))) << "p";
    }
    // From here on with the weights that the library computed: its errors in p are not errors of what follows.
    CoreMerge weighted = expected_call;
    weighted.router = MOEK_CORE_ROUTER_CALLER;
    weighted.p = call.p.values();
    const CoreMergeOutput mixed = core_merge_forward(weighted);
    EXPECT_TRUE(tolerance.check(call.v, mixed.v, {}, largest(bound.v))) << "v";
    EXPECT_TRUE(tolerance.check(call.y, mixed.y, old_y, largest(bound.y))) << "y";

    const CoreMergeOutput saved = {{}, call.u.values(), call.p.values(), call.v.values()};
    const CoreMergeOutput saved_bound = {{}, bound.u, positive.p, bound.v};
    const CoreMergeGradient gradient = core_merge_backward(expected_call, saved, call.dy.values());
    const CoreMergeGradient limit = core_merge_backward(positive, saved_bound, absolute(call.dy.values()));
    // What the router adds, coarsely: |dl| <= 2 max |dp| / temperature.
    const double dl = c.router == MOEK_CORE_ROUTER_CALLER ? 0 : 2 * largest(limit.dp) / c.temperature;
    const bool core = c.router == MOEK_CORE_ROUTER_CORE;
    const double du = core ? E * w_bound * dl : 0;
    const double x_bound = largest(positive.x) / (1 - c.dropout_p);
    const double router_bound = std::max(largest(expected_call.x), largest(expected_call.router_input));
    const double dx_bound = largest(limit.dx) + r * du * largest(positive.A) / (1 - c.dropout_p) + E * w_bound * dl;
    EXPECT_TRUE(tolerance.check(call.dp, gradient.dp, {}, largest(limit.dp))) << "dp";
    EXPECT_TRUE(tolerance.check(call.dx, gradient.dx, old_dx, dx_bound)) << "dx";
    EXPECT_TRUE(tolerance.check(call.drouter_input, gradient.drouter_input, old_drouter, E * w_bound * dl))
        << "drouter_input";
    EXPECT_TRUE(tolerance.check(call.dA, gradient.dA, old_dA, largest(limit.dA) + T * du * x_bound)) << "dA";
    EXPECT_TRUE(tolerance.check(call.dB, b_gradient(c, gradient.dB), old_dB, largest(limit.dB))) << "dB";
    EXPECT_TRUE(tolerance.check(call.dC, gradient.dC, old_dC, largest(limit.dC))) << "dC";
    EXPECT_TRUE(tolerance.check(call.dW_g, gradient.dW_g, old_dW_g, T * dl * (core ? u_bound : router_bound)))
        << "dW_g";
}

// Runs through the options with steps that share no factor, so that every pair of them meets.
CoreMergeCase with_options(CoreMergeCase c, int64_t index) {
    constexpr int32_t kRouters[] = {MOEK_CORE_ROUTER_CORE, MOEK_CORE_ROUTER_INPUT, MOEK_CORE_ROUTER_CALLER,
                                    MOEK_CORE_ROUTER_INPUT, MOEK_CORE_ROUTER_CORE};
    c.router = kRouters[index % 5];
    c.separate_input = index % 5 == 3;
    c.dtypes = all_dtypes()[static_cast<size_t>(index % 6)];
    c.b_layout = index / 2 % 2 == 0 ? MOEK_B_LAYOUT_OUT_BY_RANK : MOEK_B_LAYOUT_RANK_BY_OUT;
    c.flags = index % 7 < 2 ? MOEK_CALL_FLAG_ACCUMULATE_OUTPUT | MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS : 0;
    c.padding = index % 11 < 4 ? 3 : 0;
    c.dropout_p = index % 13 < 3 ? 0.25 : 0;
    c.dropout_core_p = index % 13 >= 2 && index % 13 < 5 ? 0.5 : 0;
    return c;
}

TEST(CoreMerge, EqualsTheReferenceOverShapes) {
    Random random;
    std::vector<int32_t> isas = available_isas();
    std::vector<std::unique_ptr<Context>> contexts;
    for (int32_t isa : isas) contexts.push_back(std::make_unique<Context>(2, isa));
    int64_t index = 0;
    for (const int64_t E : {1, 2, 5, 64}) {
        for (const int64_t r : {1, 3, 16, 17}) {
            for (const int64_t d_in : {1, 7, 130}) {
                for (const int64_t T : {0, 1, 3, 33, 257}) {
                    CoreMergeCase c;
                    c.T = T;
                    c.E = E;
                    c.r = r;
                    c.d_in = d_in;
                    c.d_out = d_in == 7 ? 131 : d_in == 1 ? 5 : 9;
                    compare_with_reference(with_options(c, index), *contexts[static_cast<size_t>(index) % isas.size()],
                                           random);
                    if (testing::Test::HasFailure()) return;
                    ++index;
                }
            }
        }
    }
}

class CoreMergeOptions : public testing::TestWithParam<int> {};

// Every dtype with every router, layout, accumulation and dropout, on one instruction set per parameter.
TEST_P(CoreMergeOptions, EqualTheReference) {
    Random random;
    const Context context(2, GetParam());
    for (int64_t index = 0; index < 6 * 5 * 2 * 2 * 2; ++index) {
        CoreMergeCase c;
        c.T = 19;
        c.d_in = 37;
        c.d_out = 21;
        c.r = 5;
        c.E = 3;
        c = with_options(c, index % 30);
        c.b_layout = static_cast<int32_t>(index / 30 % 2);
        c.flags = index / 60 % 2 == 0 ? 0 : MOEK_CALL_FLAG_ACCUMULATE_OUTPUT | MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS;
        c.dropout_p = c.dropout_core_p = index / 120 == 0 ? 0 : 0.25;
        compare_with_reference(c, context, random);
        if (testing::Test::HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, CoreMergeOptions, testing::ValuesIn(available_isas()));

TEST(CoreMerge, EqualsTheReferenceOnTf32) {
    Random random;
    const Context context;
    for (int64_t index = 0; index < 5; ++index) {
        CoreMergeCase c;
        c.T = 21;
        c.d_in = 37;
        c.d_out = 70;
        c.r = 18;
        c.E = 3;
        c = with_options(c, index);
        c.dtypes = {MOEK_DTYPE_F32, MOEK_DTYPE_F32};
        c.flags |= MOEK_CALL_FLAG_ALLOW_TF32;
        compare_with_reference(c, context, random);
        if (testing::Test::HasFailure()) return;
    }
}

// Ranks and numbers of cores beyond one block of the products.
TEST(CoreMerge, EqualsTheReferenceForWideCores) {
    Random random;
    const Context context;
    for (const auto& [r, E] : {std::pair<int64_t, int64_t>{300, 2}, {65, 9}, {2, 300}, {256, 1}}) {
        CoreMergeCase c;
        c.T = 6;
        c.d_in = 300;
        c.d_out = 270;
        c.r = r;
        c.E = E;
        c.dtypes = {MOEK_DTYPE_F32, MOEK_DTYPE_F32};
        for (const int32_t router : {MOEK_CORE_ROUTER_CORE, MOEK_CORE_ROUTER_INPUT}) {
            c.router = router;
            compare_with_reference(c, context, random);
        }
    }
}

// Cores that share a stage of the pipeline of a GPU, fill it, exceed it, or are wider than a block; more than one block of
// tokens; the last stage full or not.
TEST(CoreMerge, EqualsTheReferenceForEveryPlaceOfACore) {
    Random random;
    const Context context;
    int64_t index = 0;
    for (const int64_t r : {4, 16, 24, 40, 64, 80, 129}) {
        const int64_t experts[] = {3, 8, 1};
        CoreMergeCase c;
        c.T = 130;
        c.d_in = 24;
        c.d_out = 16;
        c.r = r;
        c.E = experts[index % 3];
        c = with_options(c, 17 * index);
        // Tensor cores and f32 arithmetic take turns: both go through the same stages.
        if (index % 2 == 1) {
            c.dtypes = {MOEK_DTYPE_F32, MOEK_DTYPE_F32};
            c.flags |= MOEK_CALL_FLAG_ALLOW_TF32;
        }
        compare_with_reference(c, context, random);
        if (testing::Test::HasFailure()) return;
        ++index;
    }
}

TEST(CoreMerge, HandVector) {
    for (const Dtypes dtypes : {Dtypes{}, Dtypes{MOEK_DTYPE_F32, MOEK_DTYPE_F32}}) {
        Random random;
        const Context context;
        CoreMergeCase c;
        c.T = 1;
        c.d_in = c.d_out = c.r = c.E = 2;
        c.dtypes = dtypes;
        c.scale = 1;
        c.temperature = 0;  // means 1
        CoreMergeCall call(c, random);
        call.x.assign({1, -2});
        call.A.assign({1, 0, .5, .5});
        call.B.assign({1, 2, 0, -1});
        call.C.assign({1, 0, 0, 1, 0, 2, -1, 0});
        call.W_g.assign({.3, -.2, 0, .1});
        call.dy.assign({1, 1});
        call.expect_both(context);
        const double tolerance = dtypes.x == MOEK_DTYPE_F64 ? 1e-9 : 1e-6;
        EXPECT_TRUE(near(call.u, {1, -0.5}, 0, tolerance));
        EXPECT_TRUE(near(call.p, {0.6106392339, 0.3893607661}, 0, tolerance));
        EXPECT_TRUE(near(call.v, {0.8053196170, 0.4734019151}, 0, tolerance));
        EXPECT_TRUE(near(call.y, {1.7521234472, -0.4734019151}, 0, tolerance));
        EXPECT_TRUE(near(call.dp, {0.5, 2.5}, 0, tolerance));
        EXPECT_TRUE(near(call.dx, {1.4286723120, 0.1819669219}, 0, tolerance));
        EXPECT_TRUE(near(call.dC,
                         {0.6106392339, 0.6106392339, -0.3053196170, -0.3053196170, 0.3893607661, 0.3893607661,
                          -0.1946803830, -0.1946803830},
                         0, tolerance));
    }
}

// Four-point differences of the library's own forward, in double.
void expect_gradient(CoreMergeCall& call, moek_context* context, Tensor& parameter, const Values& gradient,
                     const std::string& name) {
    constexpr double kStep = 2e-4;
    const Values dy = call.dy.values();
    const auto loss = [&] {
        EXPECT_EQ(call.forward(context), MOEK_STATUS_CODE_OK) << last_error();
        double sum = 0;
        const Values y = call.y.values();
        for (size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
        return sum;
    };
    for (int64_t row = 0; row < parameter.rows(); ++row) {
        for (int64_t column = 0; column < parameter.columns(); ++column) {
            const double kept = parameter.at(row, column);
            const auto loss_at = [&](double offset) {
                parameter.set(row, column, kept + offset);
                const double value = loss();
                parameter.set(row, column, kept);
                return value;
            };
            const double near_difference = loss_at(kStep) - loss_at(-kStep);
            const double far_difference = loss_at(2 * kStep) - loss_at(-2 * kStep);
            const double expected = (8 * near_difference - far_difference) / (12 * kStep);
            EXPECT_NEAR(gradient[static_cast<size_t>(row * parameter.columns() + column)], expected,
                        1e-9 * (1 + std::fabs(expected)))
                << name << " [" << row << ", " << column << "]";
        }
    }
}

TEST(CoreMerge, GradientsEqualFiniteDifferences) {
    Random random;
    const Context context;
    for (const bool dropout : {false, true}) {
        for (int64_t kind = 0; kind < 4; ++kind) {
            CoreMergeCase c = with_options({}, kind);
            c.dtypes = {};
            c.flags = 0;
            c.dropout_p = dropout ? 0.3 : 0;
            c.dropout_core_p = dropout ? 0.3 : 0;
            SCOPED_TRACE(testing::PrintToString(c));
            CoreMergeCall call(c, random);
            call.expect_both(context);
            expect_gradient(call, context, call.x, call.dx.values(), "dx");
            expect_gradient(call, context, call.router_input, call.drouter_input.values(), "drouter_input");
            expect_gradient(call, context, call.A, call.dA.values(), "dA");
            expect_gradient(call, context, call.B, call.dB.values(), "dB");
            expect_gradient(call, context, call.C, call.dC.values(), "dC");
            expect_gradient(call, context, call.W_g, call.dW_g.values(), "dW_g");
            if (c.router == MOEK_CORE_ROUTER_CALLER) expect_gradient(call, context, call.p, call.dp.values(), "dp");
        }
    }
}

}  // namespace
}  // namespace moek::test
