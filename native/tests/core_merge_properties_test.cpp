// What holds for core_merge whatever the numbers: identities, reproducibility, optional tensors, special values.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/support/core_merge_call.hpp"

namespace moek::test {
namespace {

using Values = std::vector<double>;

CoreMergeCase medium_case(int32_t router, Dtypes dtypes = {MOEK_DTYPE_F32, MOEK_DTYPE_F32}) {
    CoreMergeCase c;
    c.T = 300;
    c.d_in = 530;
    c.d_out = 270;
    c.r = 12;
    c.E = 5;
    c.router = router;
    c.dtypes = dtypes;
    return c;
}

// y = scale B C^T A x.
Values lora_with_core(const CoreMergeCall& call, const Values& core) {
    const CoreMergeCase& c = call.shape;
    Values y;
    for (int64_t t = 0; t < c.T; ++t) {
        Values v(static_cast<size_t>(c.r), 0.0);
        for (int64_t i = 0; i < c.r; ++i) {
            double u = 0;
            for (int64_t d = 0; d < c.d_in; ++d) u += call.A.at(i, d) * call.x.at(t, d);
            for (int64_t j = 0; j < c.r; ++j) v[static_cast<size_t>(j)] += u * core[static_cast<size_t>(i * c.r + j)];
        }
        for (int64_t o = 0; o < c.d_out; ++o) {
            double sum = 0;
            for (int64_t j = 0; j < c.r; ++j) sum += call.B.at(o, j) * v[static_cast<size_t>(j)];
            y.push_back(c.scale * sum);
        }
    }
    return y;
}

TEST(CoreMergeIdentity, OneCoreOfIdentityIsPlainLora) {
    Random random;
    CoreMergeCase c;
    c.T = 9;
    c.E = 1;
    CoreMergeCall call(c, random);
    call.C.assign({1, 0, 0, 0, 1, 0, 0, 0, 1});
    call.expect_both(Context());
    EXPECT_TRUE(near(call.y, lora_with_core(call, call.C.values()), 1e-12, fine(1e-12)));
    EXPECT_TRUE(near(call.dW_g, Values(static_cast<size_t>(c.r), 0.0), 0, fine(1e-12)));
}

TEST(CoreMergeIdentity, EqualCoresIgnoreTheRouter) {
    Random random;
    CoreMergeCall call({}, random);
    const Values core = random.normals(call.shape.r * call.shape.r);
    Values cores;
    for (int64_t e = 0; e < call.shape.E; ++e) cores.insert(cores.end(), core.begin(), core.end());
    call.C.assign(cores);
    call.expect_both(Context());
    EXPECT_TRUE(near(call.y, lora_with_core(call, core), 1e-12, fine(1e-12)));
    EXPECT_TRUE(near(call.dW_g, Values(static_cast<size_t>(call.shape.E * call.shape.r), 0.0), 0, fine(1e-12)));
}

TEST(CoreMergeIdentity, RouterGradientsSumToZeroOverCores) {
    Random random;
    CoreMergeCase c;
    c.router = MOEK_CORE_ROUTER_INPUT;
    CoreMergeCall call(c, random);
    call.expect_both(Context());
    double size = 0;
    for (int64_t d = 0; d < c.d_in; ++d) {
        double sum = 0;
        for (int64_t e = 0; e < c.E; ++e) {
            sum += call.dW_g.at(e, d);
            size += std::fabs(call.dW_g.at(e, d));
        }
        EXPECT_NEAR(sum, 0, fine(1e-12));
    }
    EXPECT_GT(size, 0.1);
}

TEST(CoreMergeIdentity, ZeroBStopsEveryGradientButItsOwn) {
    Random random;
    CoreMergeCall call({}, random);
    call.B.fill(0);
    call.expect_both(Context());
    for (const Tensor* zero : {&call.y, &call.dx, &call.dA, &call.dC, &call.dW_g, &call.dp}) {
        for (double value : zero->values()) EXPECT_EQ(value, 0);
    }
    for (double value : call.dB.values()) EXPECT_NE(value, 0);
}

TEST(CoreMergeIdentity, ZeroScaleGivesZero) {
    Random random;
    CoreMergeCase c;
    c.scale = 0;
    CoreMergeCall call(c, random);
    call.expect_both(Context());
    for (const Tensor* zero : {&call.y, &call.dx, &call.dA, &call.dB, &call.dC, &call.dW_g, &call.dp}) {
        for (double value : zero->values()) EXPECT_EQ(value, 0);
    }
}

TEST(CoreMergeIdentity, RightMultiplication) {
    Random random;
    CoreMergeCase c;
    c.T = 1;
    c.d_in = c.r = c.d_out = 2;
    c.E = 1;
    c.scale = 1;
    CoreMergeCall call(c, random);
    call.A.assign({1, 0, 0, 1});
    call.B.assign({1, 0, 0, 1});
    call.x.assign({1, 0});
    call.C.assign({2, 3, 5, 7});
    call.expect_both(Context());
    EXPECT_TRUE(near(call.y, {2, 3}, 0, fine(1e-12))) << "the first row of C, not its first column";
}

std::vector<const Tensor*> outputs(const CoreMergeCall& call) {
    return {&call.y,  &call.u,  &call.p,  &call.v,    &call.dx, &call.drouter_input,
            &call.dA, &call.dB, &call.dC, &call.dW_g, &call.dp};
}

void expect_same_bits(const CoreMergeCall& a, const CoreMergeCall& b) {
    const auto left = outputs(a), right = outputs(b);
    for (size_t i = 0; i < left.size(); ++i) EXPECT_TRUE(left[i]->same_bits(*right[i])) << "output " << i;
}

TEST(CoreMergeBits, DoNotDependOnThreads) {
    for (const int32_t isa : available_isas()) {
        for (const int32_t router : {MOEK_CORE_ROUTER_CORE, MOEK_CORE_ROUTER_INPUT}) {
            for (const Dtypes dtypes : all_dtypes()) {
                Random random;
                CoreMergeCase c = medium_case(router, dtypes);
                c.dropout_p = 0.1;
                c.dropout_core_p = 0.1;
                const CoreMergeCall inputs(c, random);
                const CoreMergeCall alone = inputs;
                alone.expect_both(Context(1, isa));
                for (const int32_t threads : {2, 3, 7}) {
                    const CoreMergeCall shared = inputs;
                    shared.expect_both(Context(threads, isa));
                    expect_same_bits(alone, shared);
                }
            }
        }
    }
}

// A call with some rows of another one.
CoreMergeCall rows_of_call(const CoreMergeCall& whole, int64_t first, int64_t count, uint32_t flags) {
    CoreMergeCase c = whole.shape;
    c.T = count;
    c.flags = flags;
    Random random("rows");
    CoreMergeCall part(c, random);
    part.A = whole.A;
    part.B = whole.B;
    part.C = whole.C;
    part.W_g = whole.W_g;
    for (const auto& [to, from] : {std::pair<Tensor*, const Tensor*>{&part.x, &whole.x},
                                   {&part.router_input, &whole.router_input},
                                   {&part.dy, &whole.dy}}) {
        for (int64_t t = 0; t < to->rows(); ++t) {
            for (int64_t i = 0; i < to->columns(); ++i) to->set(t, i, from->at(first + t, i));
        }
    }
    part.bind();
    return part;
}

TEST(CoreMergeBits, OfATokenDoNotDependOnItsNeighbours) {
    for (const int32_t isa : available_isas()) {
        for (const int32_t router : {MOEK_CORE_ROUTER_CORE, MOEK_CORE_ROUTER_INPUT}) {
            for (const bool separate_input : {false, true}) {
                if (separate_input && router == MOEK_CORE_ROUTER_CORE) continue;
                Random random;
                CoreMergeCase c = medium_case(router);
                c.separate_input = separate_input;
                c.flags = MOEK_CALL_FLAG_BATCH_INVARIANT;
                const Context context(2, isa);
                const CoreMergeCall whole(c, random);
                whole.expect_both(context);
                for (const int64_t count : {1, 2, 17, 33, 130}) {
                    for (const int64_t first : {int64_t{0}, int64_t{129}, c.T - count}) {
                        const CoreMergeCall part = rows_of_call(whole, first, count, c.flags);
                        part.expect_both(context);
                        for (const auto& [a, b] : {std::pair<const Tensor*, const Tensor*>{&part.y, &whole.y},
                                                   {&part.u, &whole.u},
                                                   {&part.p, &whole.p},
                                                   {&part.v, &whole.v},
                                                   {&part.dx, &whole.dx},
                                                   {&part.drouter_input, &whole.drouter_input},
                                                   {&part.dp, &whole.dp}}) {
                            for (int64_t t = 0; t < a->rows(); ++t) {
                                for (int64_t i = 0; i < a->columns(); ++i) {
                                    ASSERT_EQ(a->at(t, i), b->at(first + t, i)) << "isa " << isa << " count " << count;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

TEST(CoreMergeOptional, OutputsDoNotChangeTheOthers) {
    Random random;
    const Context context;
    for (const int32_t router : {MOEK_CORE_ROUTER_CORE, MOEK_CORE_ROUTER_INPUT, MOEK_CORE_ROUTER_CALLER}) {
        CoreMergeCase c;
        c.router = router;
        c.separate_input = router == MOEK_CORE_ROUTER_INPUT;
        const CoreMergeCall inputs(c, random);
        const CoreMergeCall all = inputs;
        all.expect_both(context);

        CoreMergeCall only_y = inputs;
        only_y.args.u = only_y.args.v = nullptr;
        if (router != MOEK_CORE_ROUTER_CALLER) only_y.args.p = nullptr;
        ASSERT_EQ(only_y.forward(context), MOEK_STATUS_CODE_OK) << last_error();
        EXPECT_TRUE(only_y.y.same_bits(all.y));
        EXPECT_TRUE(only_y.u.same_bits(inputs.u));

        using Field = void* moek_core_merge_args::*;
        const std::pair<Field, Tensor CoreMergeCall::*> gradients[] = {
            {&moek_core_merge_args::dx, &CoreMergeCall::dx},
            {&moek_core_merge_args::drouter_input, &CoreMergeCall::drouter_input},
            {&moek_core_merge_args::dA, &CoreMergeCall::dA},
            {&moek_core_merge_args::dB, &CoreMergeCall::dB},
            {&moek_core_merge_args::dC, &CoreMergeCall::dC},
            {&moek_core_merge_args::dW_g, &CoreMergeCall::dW_g},
            {&moek_core_merge_args::dp, &CoreMergeCall::dp}};
        for (const auto& [kept, kept_tensor] : gradients) {
            CoreMergeCall one = inputs;
            ASSERT_EQ(one.forward(context), MOEK_STATUS_CODE_OK) << last_error();
            for (const auto& [field, tensor] : gradients) {
                if (field != kept) one.args.*field = nullptr;
            }
            ASSERT_EQ(one.backward(context), MOEK_STATUS_CODE_OK) << last_error();
            for (const auto& [field, tensor] : gradients) {
                EXPECT_TRUE((one.*tensor).same_bits(field == kept ? all.*tensor : inputs.*tensor));
            }
        }
    }
}

TEST(CoreMergeEmpty, WeightGradientsOfNoTokensAreZeroOrKept) {
    Random random;
    const Context context;
    CoreMergeCase c;
    c.T = 0;
    CoreMergeCall zeros(c, random);
    zeros.expect_both(context);
    for (const Tensor* tensor : {&zeros.dA, &zeros.dB, &zeros.dC, &zeros.dW_g}) {
        for (double value : tensor->values()) EXPECT_EQ(value, 0);
    }
    c.flags = MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS;
    CoreMergeCall kept(c, random);
    const CoreMergeCall before = kept;
    kept.expect_both(context);
    EXPECT_TRUE(kept.dA.same_bits(before.dA) && kept.dB.same_bits(before.dB) && kept.dC.same_bits(before.dC) &&
                kept.dW_g.same_bits(before.dW_g));
}

TEST(CoreMergeEmpty, NoTokensNeedNoTensorsOfThem) {
    Random random;
    const Context context;
    CoreMergeCase c;
    c.T = 0;
    CoreMergeCall call(c, random);
    for (void** pointer : {&call.args.y, &call.args.u, &call.args.p, &call.args.v, &call.args.dx, &call.args.dp}) {
        *pointer = nullptr;
    }
    call.args.x = call.args.dy = nullptr;
    call.expect_both(context);
}

TEST(CoreMergeNan, LogitsWeighNothingOrAreReported) {
    Random random;
    const Context context;
    for (const bool stacked : {true, false}) {
        CoreMergeCase c;
        c.T = 200;
        c.router = MOEK_CORE_ROUTER_INPUT;
        c.dropout_p = stacked ? 0 : 0.1;
        CoreMergeCall call(c, random);
        call.W_g.set(1, 0, std::numeric_limits<double>::quiet_NaN());
        CoreMergeCall strict = call;
        call.expect_both(context);
        for (int64_t t = 0; t < c.T; ++t) {
            EXPECT_EQ(call.p.at(t, 1), 0);
            EXPECT_NEAR(call.p.at(t, 0) + call.p.at(t, 2) + call.p.at(t, 3), 1, fine(1e-12));
            EXPECT_TRUE(std::isfinite(call.y.at(t, 0)));
        }

        if (on_cuda()) continue;  // cannot report what it finds
        strict.args.flags = MOEK_CALL_FLAG_STRICT;
        MOEK_EXPECT_ERROR(strict.forward(context), MOEK_STATUS_CODE_NUMERIC, "router logits: got a NaN in row 0");
        for (const Tensor* tensor : {&strict.y, &strict.u, &strict.p, &strict.v}) {
            for (double value : tensor->values()) EXPECT_TRUE(std::isnan(value)) << "was written";
        }
    }
}

TEST(CoreMergeNan, StrictCallsWithoutOneAreThePlainCalls) {
    Random random;
    const Context context;
    for (const int32_t router : {MOEK_CORE_ROUTER_CORE, MOEK_CORE_ROUTER_INPUT, MOEK_CORE_ROUTER_CALLER}) {
        CoreMergeCase c;
        c.router = router;
        const CoreMergeCall plain(c, random);
        CoreMergeCall strict = plain;
        strict.args.flags = MOEK_CALL_FLAG_STRICT;
        plain.expect_both(context);
        strict.expect_both(context);
        expect_same_bits(plain, strict);
    }
}

TEST(CoreMergeNan, RowsWithoutAnyScoreAreZero) {
    Random random;
    CoreMergeCase c;
    c.router = MOEK_CORE_ROUTER_INPUT;
    CoreMergeCall call(c, random);
    call.W_g.fill(std::numeric_limits<double>::quiet_NaN());
    ASSERT_EQ(call.forward(Context()), MOEK_STATUS_CODE_OK) << last_error();
    for (const Tensor* tensor : {&call.p, &call.y}) {
        for (double value : tensor->values()) EXPECT_EQ(value, 0);
    }
}

TEST(CoreMergeNan, TokensOfNanAddNothingToAnyGradient) {
    const Context context;
    for (const int32_t router : {MOEK_CORE_ROUTER_CORE, MOEK_CORE_ROUTER_INPUT}) {
        for (const bool separate_input : {false, true}) {
            for (const double dropout_p : {0.0, 0.25}) {
                if (separate_input && router == MOEK_CORE_ROUTER_CORE) continue;
                Random random;
                CoreMergeCase c;
                c.T = 140;
                c.router = router;
                c.separate_input = separate_input;
                c.dropout_p = dropout_p;
                SCOPED_TRACE(testing::PrintToString(c));
                CoreMergeCall call(c, random);
                for (const int64_t t : {3, 139}) {
                    for (int64_t i = 0; i < c.d_in; ++i) {
                        call.x.set(t, i, std::numeric_limits<double>::quiet_NaN());
                        if (separate_input) call.router_input.set(t, i, std::numeric_limits<double>::quiet_NaN());
                    }
                }
                call.expect_both(context);
                const reference::CoreMerge expected_call = call.reference_call(context);
                const reference::CoreMergeOutput expected = core_merge_forward(expected_call);
                const reference::CoreMergeGradient gradient =
                    core_merge_backward(expected_call, expected, call.dy.values());
                for (int64_t o = 0; o < c.d_out; ++o) EXPECT_EQ(call.y.at(3, o), 0);
                for (int64_t d = 0; d < c.d_in; ++d) EXPECT_EQ(call.dx.at(139, d), 0);
                for (double value : gradient.dA) EXPECT_TRUE(std::isfinite(value));
                const double sums = on_cuda() ? 2e-5 : 1e-11;  // over 140 tokens, some of which cancel
                EXPECT_TRUE(near(call.y, expected.y, fine(1e-12), fine(1e-12))) << "y";
                EXPECT_TRUE(near(call.dx, gradient.dx, fine(1e-12), fine(1e-12))) << "dx";
                EXPECT_TRUE(near(call.drouter_input, gradient.drouter_input, fine(1e-12), fine(1e-12)))
                    << "drouter_input";
                EXPECT_TRUE(near(call.dA, gradient.dA, sums, sums)) << "dA";
                EXPECT_TRUE(near(call.dB, gradient.dB, sums, sums)) << "dB";
                EXPECT_TRUE(near(call.dC, gradient.dC, sums, sums)) << "dC";
                EXPECT_TRUE(near(call.dW_g, gradient.dW_g, sums, sums)) << "dW_g";
                EXPECT_TRUE(near(call.dp, gradient.dp, fine(1e-12), fine(1e-12))) << "dp";
            }
        }
    }
}

TEST(CoreMergeNan, InfiniteScoresShareTheWeight) {
    Random random;
    CoreMergeCase c;
    c.T = 1;
    c.d_in = 1;
    c.router = MOEK_CORE_ROUTER_INPUT;
    CoreMergeCall call(c, random);
    const double infinity = std::numeric_limits<double>::infinity();
    call.x.assign({1});
    call.W_g.assign({infinity, 0, infinity, -infinity});
    ASSERT_EQ(call.forward(Context()), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_TRUE(near(call.p, {0.5, 0, 0.5, 0}, 0, 0));
}

TEST(CoreMergeWorkspace, MayLieAnywhere) {
    Random random;
    const Context context;
    const CoreMergeCall aligned({}, random);
    const CoreMergeCall shifted = aligned;
    aligned.expect_both(context);
    uint64_t bytes = 0;
    ASSERT_EQ(moek_core_merge_forward_workspace(context, &shifted.args, &bytes), MOEK_STATUS_CODE_OK);
    GuardedBytes forward(bytes + 1);
    ASSERT_EQ(moek_core_merge_forward(context, &shifted.args, forward.data() + 1, bytes, nullptr), MOEK_STATUS_CODE_OK);
    ASSERT_EQ(moek_core_merge_backward_workspace(context, &shifted.args, &bytes), MOEK_STATUS_CODE_OK);
    GuardedBytes backward(bytes + 1);
    ASSERT_EQ(moek_core_merge_backward(context, &shifted.args, backward.data() + 1, bytes, nullptr),
              MOEK_STATUS_CODE_OK);
    wait_for_device();
    expect_same_bits(aligned, shifted);
}

}  // namespace
}  // namespace moek::test
