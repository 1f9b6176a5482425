#include "cpu/core_merge/reference.hpp"
#include "tests/support/reference_check.hpp"

namespace moek::reference {
namespace {

using check::dot;
using check::expect_gradient;
using check::expect_near;
using check::Random;
using check::Vector;

/// Two tokens more than experts, no two dimensions alike.
CoreMerge random_call(moek_core_router router, unsigned seed) {
    Random random(seed);
    CoreMerge call;
    call.T = 6;
    call.d_in = 7;
    call.d_out = 5;
    call.r = 3;
    call.E = 4;
    call.router = router;
    call.scale = 1.5;
    call.temperature = 0.7;
    call.x = random.normal(call.T, call.d_in);
    call.A = random.normal(call.r, call.d_in);
    call.B = random.normal(call.d_out, call.r);
    call.C = random.normal(call.E, call.r * call.r);
    if (router == MOEK_CORE_ROUTER_CORE) call.W_g = random.normal(call.E, call.r);
    if (router == MOEK_CORE_ROUTER_INPUT) call.W_g = random.normal(call.E, call.d_in);
    if (router == MOEK_CORE_ROUTER_CALLER) call.p = random.normal(call.T, call.E);
    return call;
}

/// Plain LoRA with the core C between its factors: y = scale B C^T A x.
Vector lora_with_core(const CoreMerge& call, const Vector& core) {
    Vector y;
    for (int64_t t = 0; t < call.T; ++t) {
        for (int64_t o = 0; o < call.d_out; ++o) {
            double sum = 0;
            for (int64_t i = 0; i < call.r; ++i) {
                for (int64_t j = 0; j < call.r; ++j) {
                    for (int64_t c = 0; c < call.d_in; ++c) {
                        sum += call.B[static_cast<size_t>(o * call.r + j)] * core[static_cast<size_t>(i * call.r + j)] *
                               call.A[static_cast<size_t>(i * call.d_in + c)] *
                               call.x[static_cast<size_t>(t * call.d_in + c)];
                    }
                }
            }
            y.push_back(call.scale * sum);
        }
    }
    return y;
}

TEST(CoreMergeReference, HandVector) {
    CoreMerge call;
    call.T = 1;
    call.d_in = call.r = call.d_out = call.E = 2;
    call.x = {1, -2};
    call.A = {1, 0, .5, .5};
    call.B = {1, 2, 0, -1};
    call.C = {1, 0, 0, 1, 0, 2, -1, 0};
    call.W_g = {.3, -.2, 0, .1};
    const CoreMergeOutput out = core_merge_forward(call);
    expect_near(out.u, {1, -0.5}, 1e-9, "u");
    expect_near(out.p, {0.6106392339, 0.3893607661}, 1e-9, "p");
    expect_near(out.v, {0.8053196170, 0.4734019151}, 1e-9, "v");
    expect_near(out.y, {1.7521234472, -0.4734019151}, 1e-9, "y");

    const CoreMergeGradient gradient = core_merge_backward(call, out, {1, 1});
    expect_near(gradient.dp, {0.5, 2.5}, 1e-9, "dp");
    // dl of the paper's notation is (-g, g); it shows in dW_g = dl u^T.
    const double g = 0.4755179198;
    expect_near(gradient.dW_g, {-g, g / 2, g, -g / 2}, 1e-9, "dW_g");
    expect_near(gradient.dx, {1.4286723120, 0.1819669219}, 1e-9, "dx");
    expect_near(gradient.dA, {1.2467053901, -2 * 1.2467053901, 0.3639338438, -2 * 0.3639338438}, 1e-9, "dA");
    expect_near(gradient.dB, {0.8053196170, 0.4734019151, 0.8053196170, 0.4734019151}, 1e-9, "dB");
    expect_near(gradient.dC,
                {0.6106392339, 0.6106392339, -0.3053196170, -0.3053196170, 0.3893607661, 0.3893607661, -0.1946803830,
                 -0.1946803830},
                1e-9, "dC");
}

class CoreMergeReferenceRouter : public testing::TestWithParam<moek_core_router> {};

TEST_P(CoreMergeReferenceRouter, GradientsEqualFiniteDifferences) {
    for (const bool separate_input : {false, true}) {
        for (const bool dropout : {false, true}) {
            if (separate_input && GetParam() != MOEK_CORE_ROUTER_INPUT) continue;
            SCOPED_TRACE(testing::Message() << "separate_input " << separate_input << " dropout " << dropout);
            CoreMerge call = random_call(GetParam(), 11);
            Random random(12);
            if (separate_input) call.router_input = random.normal(call.T, call.d_in);
            if (dropout) {
                call.dropout_mask = random.mask(call.T, call.d_in, 0.3);
                call.dropout_core_mask = random.mask(call.T, call.r, 0.3);
            }
            const Vector dy = random.normal(call.T, call.d_out);
            const auto loss = [&] { return dot(core_merge_forward(call).y, dy); };
            const CoreMergeGradient gradient = core_merge_backward(call, core_merge_forward(call), dy);
            expect_gradient(call.x, gradient.dx, loss, "dx");
            expect_gradient(call.router_input, gradient.drouter_input, loss, "drouter_input");
            expect_gradient(call.A, gradient.dA, loss, "dA");
            expect_gradient(call.B, gradient.dB, loss, "dB");
            expect_gradient(call.C, gradient.dC, loss, "dC");
            expect_gradient(call.W_g, gradient.dW_g, loss, "dW_g");
            if (GetParam() == MOEK_CORE_ROUTER_CALLER) expect_gradient(call.p, gradient.dp, loss, "dp");
        }
    }
}

INSTANTIATE_TEST_SUITE_P(AllRouters, CoreMergeReferenceRouter,
                         testing::Values(MOEK_CORE_ROUTER_CORE, MOEK_CORE_ROUTER_INPUT, MOEK_CORE_ROUTER_CALLER));

TEST(CoreMergeReference, OneCoreOfIdentityIsPlainLora) {
    CoreMerge call = random_call(MOEK_CORE_ROUTER_CORE, 21);
    call.E = 1;
    call.C = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    call.W_g.resize(static_cast<size_t>(call.r));
    expect_near(core_merge_forward(call).y, lora_with_core(call, call.C), 1e-12, "y");
}

TEST(CoreMergeReference, EqualCoresIgnoreTheRouter) {
    CoreMerge call = random_call(MOEK_CORE_ROUTER_CORE, 22);
    const Vector core(call.C.begin(), call.C.begin() + call.r * call.r);
    call.C.clear();
    for (int64_t e = 0; e < call.E; ++e) call.C.insert(call.C.end(), core.begin(), core.end());
    const CoreMergeOutput out = core_merge_forward(call);
    expect_near(out.y, lora_with_core(call, core), 1e-12, "y");
    const CoreMergeGradient gradient = core_merge_backward(call, out, Random(23).normal(call.T, call.d_out));
    expect_near(gradient.dW_g, Vector(gradient.dW_g.size(), 0.0), 1e-12, "dW_g");
}

TEST(CoreMergeReference, ZeroBStopsEveryGradientButItsOwn) {
    CoreMerge call = random_call(MOEK_CORE_ROUTER_INPUT, 24);
    call.B.assign(call.B.size(), 0.0);
    const CoreMergeGradient gradient =
        core_merge_backward(call, core_merge_forward(call), Random(25).normal(call.T, call.d_out));
    for (const Vector* zero : {&gradient.dx, &gradient.dA, &gradient.dC, &gradient.dW_g}) {
        for (double value : *zero) EXPECT_EQ(value, 0);
    }
    for (double value : gradient.dB) EXPECT_NE(value, 0);
}

TEST(CoreMergeReference, NanLogitsWeighNothing) {
    CoreMerge call = random_call(MOEK_CORE_ROUTER_INPUT, 26);
    call.W_g[0] = std::nan("");
    const CoreMergeOutput out = core_merge_forward(call);
    for (int64_t t = 0; t < call.T; ++t) {
        double sum = 0;
        for (int64_t e = 0; e < call.E; ++e) sum += out.p[static_cast<size_t>(t * call.E + e)];
        EXPECT_EQ(out.p[static_cast<size_t>(t * call.E)], 0);
        EXPECT_NEAR(sum, 1, 1e-12);
    }
    call.W_g.assign(call.W_g.size(), std::nan(""));
    for (double p : core_merge_forward(call).p) EXPECT_EQ(p, 0);
}

}  // namespace
}  // namespace moek::reference
