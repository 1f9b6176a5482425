// rank_lora through the C ABI: against the double reference, by identities, and at its edges.
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 follows an impossible path on which a tensor's size is negative.
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#endif
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "cpu/rank_lora/reference.hpp"
#include "moekernels.h"
#include "tests/support/context.hpp"
#include "tests/support/random.hpp"
#include "tests/support/tensor.hpp"

namespace moek::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Dtypes {
    int32_t x = finest_dtype(), weight = finest_dtype(), router = finest_dtype(), y = finest_dtype(),
            grad = finest_dtype();
};

Dtypes uniform(int32_t dtype) {
    return {dtype, dtype, dtype, dtype, dtype};
}

Dtypes mixed(int32_t dtype) {
    return {dtype, MOEK_DTYPE_F32, MOEK_DTYPE_F32, dtype, MOEK_DTYPE_F32};
}

// What picks and weighs the ranks.
struct Gate {
    int32_t source = MOEK_RANK_GATE_ROUTER;
    int32_t score = MOEK_GATE_SCORE_SIGMOID;
    int32_t bias_mode = MOEK_BIAS_MODE_NONE;
    int32_t normalize = MOEK_GATE_NORMALIZE_NONE;
    int64_t rank_partition = 1;
    double eps = 0;
    double threshold = 0;

    std::string text() const {
        return "gate " + std::to_string(source) + " score " + std::to_string(score) + " bias " +
               std::to_string(bias_mode) + " normalize " + std::to_string(normalize) + " partition " +
               std::to_string(rank_partition) + " eps " + std::to_string(eps) + " threshold " +
               std::to_string(threshold);
    }
};

const Gate kSmora = {MOEK_RANK_GATE_ROUTER, MOEK_GATE_SCORE_SIGMOID, MOEK_BIAS_MODE_WEIGHT,
                     MOEK_GATE_NORMALIZE_SUM_TO_K};

// Everything about a call but its data.
struct Shape {
    int64_t T = 5, d_in = 7, d_out = 6, r = 6, k = 3;
    Gate gate = kSmora;
    Dtypes dtypes = {};
    int32_t b_layout = MOEK_B_LAYOUT_OUT_BY_RANK;
    bool separate_router_input = false;
    double dropout_p = 0;
    int64_t padding = 0;  // added to every dense stride
    double scale = 1.5;
    double temperature = 0.7;

    std::string text() const {
        return "T " + std::to_string(T) + " d_in " + std::to_string(d_in) + " d_out " + std::to_string(d_out) + " r " +
               std::to_string(r) + " k " + std::to_string(k) + " " + gate.text() + " x " + dtype_name(dtypes.x) +
               " weight " + dtype_name(dtypes.weight) + " b_layout " + std::to_string(b_layout) + " router_input " +
               std::to_string(separate_router_input) + " dropout " + std::to_string(dropout_p) + " padding " +
               std::to_string(padding);
    }
    int64_t router_rows() const { return gate.source == MOEK_RANK_GATE_ROUTER ? r / gate.rank_partition : 0; }
    int64_t logit_columns() const {
        return gate.source == MOEK_RANK_GATE_ROUTER               ? router_rows()
               : gate.source == MOEK_RANK_GATE_ACTIVATION_SOFTMAX ? r
                                                                  : 0;
    }
};

struct Outputs {
    Tensor y, gates, u, gate_logits;
    IntTensor ids, counts;
};

struct Gradients {
    Tensor dx, drouter_input, dA, dB, dW_r, dgates;
};

// A call and its inputs.
struct Call {
    Call(const Shape& given, Random& random) : shape(given) {
        const auto matrix = [&](int32_t dtype, int64_t rows, int64_t columns, double deviation = 1) {
            return Tensor(dtype, rows, columns, random.normals(rows * columns, deviation), columns + shape.padding);
        };
        // Activations and logits of size 1: a sigmoid that saturates would tie.
        const double shrink = 1 / std::sqrt(static_cast<double>(shape.d_in));
        x = matrix(shape.dtypes.x, shape.T, shape.d_in);
        A = matrix(shape.dtypes.weight, shape.r, shape.d_in, shrink);
        B = out_by_rank() ? matrix(shape.dtypes.weight, shape.d_out, shape.r)
                          : matrix(shape.dtypes.weight, shape.r, shape.d_out);
        dy = matrix(shape.dtypes.y, shape.T, shape.d_out);
        if (shape.router_rows() != 0) W_r = matrix(shape.dtypes.router, shape.router_rows(), shape.d_in, shrink);
        if (shape.separate_router_input) router_input = matrix(shape.dtypes.x, shape.T, shape.d_in);
        if (shape.gate.bias_mode != MOEK_BIAS_MODE_NONE) {
            // Small and distinct: it decides among the equal scores of a partition and leaves sums positive.
            std::vector<double> values;
            for (int64_t i = 0; i < shape.r; ++i) {
                values.push_back(0.01 * static_cast<double>((i * 7) % shape.r) / static_cast<double>(shape.r));
            }
            bias = Tensor(accumulator(), 1, shape.r, values);
        }
        if (shape.gate.source == MOEK_RANK_GATE_CALLER) {
            std::vector<int32_t> ids;
            std::vector<int32_t> all(static_cast<size_t>(shape.r));
            std::iota(all.begin(), all.end(), 0);
            for (int64_t t = 0; t < shape.T; ++t) {
                std::shuffle(all.begin(), all.end(), random.engine());
                ids.insert(ids.end(), all.begin(), all.begin() + shape.k);
            }
            caller_ids = IntTensor(shape.T, shape.k, ids);
            caller_gates = Tensor(accumulator(), shape.T, shape.k, random.normals(shape.T * shape.k));
        }
    }

    bool out_by_rank() const { return shape.b_layout == MOEK_B_LAYOUT_OUT_BY_RANK; }
    int32_t accumulator() const { return accumulator_dtype(shape.dtypes.x); }

    moek_rank_lora_args args() {
        moek_rank_lora_args args = {};
        args.struct_size = sizeof(args);
        args.flags = flags;
        args.T = shape.T;
        args.d_in = shape.d_in;
        args.d_out = shape.d_out;
        args.r = shape.r;
        args.k = shape.k;
        args.rank_partition = shape.gate.rank_partition;
        args.x_stride = x.stride();
        args.A_stride = A.stride();
        args.B_stride = B.stride();
        args.W_r_stride = W_r.stride();
        args.router_input_stride = router_input.stride();
        args.dy_stride = dy.stride();
        args.x_dtype = shape.dtypes.x;
        args.weight_dtype = shape.dtypes.weight;
        args.router_dtype = shape.dtypes.router;
        args.y_dtype = shape.dtypes.y;
        args.grad_dtype = shape.dtypes.grad;
        args.b_layout = shape.b_layout;
        args.gate = shape.gate.source;
        args.score = shape.gate.score;
        args.bias_mode = shape.gate.bias_mode;
        args.normalize = shape.gate.normalize;
        args.scale = shape.scale;
        args.eps = shape.gate.eps;
        args.temperature = shape.temperature;
        args.threshold = shape.gate.threshold;
        args.dropout_p = shape.dropout_p;
        args.dropout_seed = 77;
        args.dropout_offset = 5;
        args.x = x.data();
        args.A = A.data();
        args.B = B.data();
        if (W_r.rows() != 0) args.W_r = W_r.data();
        if (router_input.rows() != 0) args.router_input = router_input.data();
        if (bias.rows() != 0) args.bias = bias.data();
        return args;
    }

    Outputs make_outputs() const {
        Outputs out;
        out.y = Tensor(shape.dtypes.y, shape.T, shape.d_out, shape.d_out + shape.padding);
        const bool given = shape.gate.source == MOEK_RANK_GATE_CALLER;
        out.ids = given ? caller_ids : IntTensor(shape.T, shape.k);
        out.gates = given ? caller_gates : Tensor(accumulator(), shape.T, shape.k);
        out.u = Tensor(accumulator(), shape.T, shape.k);
        out.gate_logits = Tensor(accumulator(), shape.logit_columns() == 0 ? 0 : shape.T, shape.logit_columns());
        out.counts = IntTensor(1, shape.r);
        return out;
    }

    static void point_to(Outputs& out, moek_rank_lora_args& args) {
        args.y = out.y.data();
        args.y_stride = out.y.stride();
        args.ids = out.ids.data();
        args.gates = out.gates.data();
        args.u = out.u.data();
        args.gate_logits = out.gate_logits.columns() == 0 ? nullptr : out.gate_logits.data();
        args.counts = out.counts.data();
    }

    moek_status try_forward(moek_context* context, Outputs& out) {
        moek_rank_lora_args call = args();
        point_to(out, call);
        return run(moek_rank_lora_forward_workspace, moek_rank_lora_forward, context, call);
    }

    Outputs forward(moek_context* context) {
        Outputs out = make_outputs();
        EXPECT_EQ(try_forward(context, out), MOEK_STATUS_CODE_OK) << last_error();
        return out;
    }

    Gradients make_gradients() const {
        Gradients out;
        out.dx = Tensor(shape.dtypes.x, shape.T, shape.d_in, shape.d_in + shape.padding);
        out.dA = Tensor(shape.dtypes.grad, shape.r, shape.d_in, shape.d_in + shape.padding);
        out.dB = Tensor(shape.dtypes.grad, B.rows(), B.columns(), B.stride());
        out.dgates = Tensor(accumulator(), shape.T, shape.k);
        if (W_r.rows() != 0) out.dW_r = Tensor(shape.dtypes.grad, W_r.rows(), shape.d_in, W_r.stride());
        if (router_input.rows() != 0) {
            out.drouter_input = Tensor(shape.dtypes.x, shape.T, shape.d_in, shape.d_in + shape.padding);
        }
        return out;
    }

    static void point_to(Gradients& out, moek_rank_lora_args& args) {
        args.dx = out.dx.data();
        args.dx_stride = out.dx.stride();
        args.dA = out.dA.data();
        args.dA_stride = out.dA.stride();
        args.dB = out.dB.data();
        args.dB_stride = out.dB.stride();
        args.dgates = out.dgates.data();
        if (out.dW_r.rows() != 0) {
            args.dW_r = out.dW_r.data();
            args.dW_r_stride = out.dW_r.stride();
        }
        if (out.drouter_input.rows() != 0) {
            args.drouter_input = out.drouter_input.data();
            args.drouter_input_stride = out.drouter_input.stride();
        }
    }

    moek_rank_lora_args backward_args(Outputs& saved, Gradients& out) {
        moek_rank_lora_args call = args();
        point_to(saved, call);
        point_to(out, call);
        call.y = nullptr;
        call.counts = nullptr;
        call.dy = dy.data();
        return call;
    }

    moek_status try_backward(moek_context* context, Outputs& saved, Gradients& out) {
        return run(moek_rank_lora_backward_workspace, moek_rank_lora_backward, context, backward_args(saved, out));
    }

    Gradients backward(moek_context* context, Outputs& saved) {
        Gradients out = make_gradients();
        EXPECT_EQ(try_backward(context, saved, out), MOEK_STATUS_CODE_OK) << last_error();
        return out;
    }

    // The same call for the reference, with the values that the library sees.
    reference::RankLora to_reference(moek_context* context) const {
        reference::RankLora call;
        call.T = shape.T;
        call.d_in = shape.d_in;
        call.d_out = shape.d_out;
        call.r = shape.r;
        call.k = shape.k;
        call.rank_partition = shape.gate.rank_partition;
        call.gate = static_cast<moek_rank_gate>(shape.gate.source);
        call.score = static_cast<moek_gate_score>(shape.gate.score);
        call.bias_mode = static_cast<moek_bias_mode>(shape.gate.bias_mode);
        call.normalize = static_cast<moek_gate_normalize>(shape.gate.normalize);
        call.scale = shape.scale;
        call.eps = shape.gate.eps;
        call.temperature = shape.temperature;
        call.threshold = shape.gate.threshold;
        call.x = x.values();
        call.router_input = router_input.values();
        const std::vector<double> b = as_operand(B, shape.dtypes.x);
        call.A = as_operand(A, shape.dtypes.x);
        call.B = out_by_rank() ? b : transposed(b, shape.r, shape.d_out);
        call.W_r = as_operand(W_r, shape.dtypes.x);
        call.bias = bias.values();
        if (shape.gate.source == MOEK_RANK_GATE_CALLER) {
            call.ids = caller_ids.values();
            call.gates = caller_gates.values();
        }
        if (shape.dropout_p > 0) {
            Tensor mask(finest_dtype(), shape.T, shape.d_in);
            moek_dropout_args dropout = {};
            dropout.struct_size = sizeof(dropout);
            dropout.T = shape.T;
            dropout.d = shape.d_in;
            dropout.p = shape.dropout_p;
            dropout.seed = 77;
            dropout.offset = 5;
            dropout.mask_dtype = finest_dtype();
            dropout.mask = mask.data();
            EXPECT_EQ(moek_dropout_mask(context, &dropout, nullptr), MOEK_STATUS_CODE_OK) << last_error();
            wait_for_device();
            call.dropout_mask = mask.values();
            call.x = as_dropped_operand(x, call.dropout_mask);
        }
        return call;
    }

    // [rows, columns] to [columns, rows].
    static std::vector<double> transposed(const std::vector<double>& values, int64_t rows, int64_t columns) {
        std::vector<double> result(values.size());
        for (int64_t i = 0; i < rows; ++i) {
            for (int64_t j = 0; j < columns; ++j) {
                result[static_cast<size_t>(j * rows + i)] = values[static_cast<size_t>(i * columns + j)];
            }
        }
        return result;
    }
    // dB as [d_out, r].
    std::vector<double> db_values(const Gradients& out) const {
        return out_by_rank() ? out.dB.values() : transposed(out.dB.values(), shape.r, shape.d_out);
    }

    Shape shape;
    uint32_t flags = 0;
    Tensor x, router_input, A, B, W_r, bias, dy, caller_gates;
    IntTensor caller_ids;
};

double largest(const std::vector<double>& values) {
    double result = 1;
    for (double value : values) result = std::isfinite(value) ? std::max(result, std::fabs(value)) : result;
    return result;
}

// Within the rounding of sums in the accumulator type and of up to two operands made for a tensor core (each adds half a
// unit to every term, of which the largest element bounds a few), relative to the tensor's largest element, and one
// rounding to the storage dtype.
testing::AssertionResult agrees(const Tensor& got, const std::vector<double>& expected, double operand_error = 0) {
    const bool f64 = got.dtype() == MOEK_DTYPE_F64;
    const double sums = (f64 ? 1e-12 : 2e-5) + 4 * operand_error;
    // Half-precision subnormals round to multiples of 2^-24.
    return near(got, expected, f64 ? 0 : 0.51 * epsilon(got.dtype()), sums * largest(expected) + (f64 ? 0 : 0x1p-24));
}

void expect_reference(Call& call, moek_context* context) {
    SCOPED_TRACE(call.shape.text());
    const double rounding = operand_rounding(call.shape.dtypes.x, call.flags);
    const reference::RankLora expected_call = call.to_reference(context);
    const reference::RankLoraOutput expected = reference::rank_lora_forward(expected_call);
    Outputs out = call.forward(context);
    ASSERT_EQ(out.ids.values(), expected.ids);
    EXPECT_EQ(out.counts.values(), expected.counts);
    EXPECT_TRUE(agrees(out.gates, expected.gates)) << "gates";
    EXPECT_TRUE(agrees(out.u, expected.u)) << "u";
    EXPECT_TRUE(agrees(out.gate_logits, expected.gate_logits)) << "gate_logits";
    EXPECT_TRUE(agrees(out.y, expected.y, rounding)) << "y";

    const reference::RankLoraGradient gradient =
        reference::rank_lora_backward(expected_call, expected, call.dy.values());
    const Gradients got = call.backward(context, out);
    EXPECT_TRUE(agrees(got.dgates, gradient.dgates, rounding)) << "dgates";
    EXPECT_TRUE(agrees(got.dx, gradient.dx, rounding)) << "dx";
    EXPECT_TRUE(agrees(got.dA, gradient.dA, rounding)) << "dA";
    EXPECT_TRUE(agrees(got.dB,
                       call.out_by_rank() ? gradient.dB : Call::transposed(gradient.dB, call.shape.d_out, call.shape.r),
                       rounding))
        << "dB";
    EXPECT_TRUE(agrees(got.dW_r, gradient.dW_r, rounding)) << "dW_r";
    EXPECT_TRUE(agrees(got.drouter_input, gradient.drouter_input, rounding)) << "drouter_input";
}

std::vector<Gate> all_gates() {
    std::vector<Gate> gates;
    for (const int32_t score : {MOEK_GATE_SCORE_SOFTMAX, MOEK_GATE_SCORE_SIGMOID, MOEK_GATE_SCORE_IDENTITY}) {
        for (const int32_t bias : {MOEK_BIAS_MODE_NONE, MOEK_BIAS_MODE_SELECTION, MOEK_BIAS_MODE_WEIGHT}) {
            for (const int32_t normalize :
                 {MOEK_GATE_NORMALIZE_NONE, MOEK_GATE_NORMALIZE_SUM_TO_ONE, MOEK_GATE_NORMALIZE_SUM_TO_K}) {
                for (const int64_t partition : {1, 2}) {
                    // Identity scores have either sign; the large eps keeps their sum away from the pole at zero.
                    const double eps = score == MOEK_GATE_SCORE_IDENTITY ? 300 : 0.05;
                    gates.push_back({MOEK_RANK_GATE_ROUTER, score, bias, normalize, partition, eps});
                }
            }
        }
    }
    // Without eps a softmax over the selection has a sparse gradient.
    gates.push_back(
        {MOEK_RANK_GATE_ROUTER, MOEK_GATE_SCORE_SOFTMAX, MOEK_BIAS_MODE_NONE, MOEK_GATE_NORMALIZE_SUM_TO_K});
    gates.push_back({MOEK_RANK_GATE_CALLER});
    for (const int32_t source : {MOEK_RANK_GATE_ACTIVATION_SIGNED, MOEK_RANK_GATE_ACTIVATION_ABSOLUTE}) {
        gates.push_back({source});
        gates.push_back({source, MOEK_GATE_SCORE_SOFTMAX, MOEK_BIAS_MODE_SELECTION});
    }
    for (const int32_t normalize :
         {MOEK_GATE_NORMALIZE_NONE, MOEK_GATE_NORMALIZE_SUM_TO_ONE, MOEK_GATE_NORMALIZE_SUM_TO_K}) {
        for (const int32_t bias : {MOEK_BIAS_MODE_NONE, MOEK_BIAS_MODE_SELECTION, MOEK_BIAS_MODE_WEIGHT}) {
            for (const double threshold : {0.0, 0.2}) {
                gates.push_back(
                    {MOEK_RANK_GATE_ACTIVATION_SOFTMAX, MOEK_GATE_SCORE_SOFTMAX, bias, normalize, 1, 0.05, threshold});
            }
        }
    }
    return gates;
}

class RankLoraOnIsa : public testing::TestWithParam<int32_t> {
  protected:
    Context context_{3, GetParam()};
    Random random_;
};

INSTANTIATE_TEST_SUITE_P(, RankLoraOnIsa, testing::ValuesIn(available_isas()),
                         [](const auto& test) { return "isa" + std::to_string(test.param); });

// ---------------------------------------------------------------------------------------------------------------------
// Against the reference
// ---------------------------------------------------------------------------------------------------------------------

TEST_P(RankLoraOnIsa, AgreesWithTheReferenceForEveryGate) {
    for (const Gate& gate : all_gates()) {
        // k = 3 of 6 is computed sparse, 4 of 6 dense.
        for (const int64_t k : {3, 4}) {
            for (int variant = 0; variant < 8; ++variant) {
                Shape shape;
                shape.gate = gate;
                shape.k = k;
                shape.dropout_p = (variant & 1) != 0 ? 0.3 : 0;
                shape.separate_router_input = (variant & 2) != 0;
                shape.b_layout = (variant & 4) != 0 ? MOEK_B_LAYOUT_RANK_BY_OUT : MOEK_B_LAYOUT_OUT_BY_RANK;
                if (shape.separate_router_input && gate.source != MOEK_RANK_GATE_ROUTER) continue;
                Call call(shape, random_);
                expect_reference(call, context_);
                if (HasFailure()) return;
            }
        }
    }
}

TEST_P(RankLoraOnIsa, AgreesWithTheReferenceForEveryDtype) {
    std::vector<Gate> gates = {kSmora,
                               {MOEK_RANK_GATE_ROUTER, MOEK_GATE_SCORE_SOFTMAX},
                               {MOEK_RANK_GATE_CALLER},
                               {MOEK_RANK_GATE_ACTIVATION_ABSOLUTE, 0, MOEK_BIAS_MODE_SELECTION},
                               {MOEK_RANK_GATE_ACTIVATION_SOFTMAX}};
    for (const Dtypes& dtypes : {uniform(MOEK_DTYPE_F32), uniform(MOEK_DTYPE_BF16), uniform(MOEK_DTYPE_F16),
                                 uniform(finest_dtype()), mixed(MOEK_DTYPE_BF16), mixed(MOEK_DTYPE_F16)}) {
        for (const Gate& gate : gates) {
            for (const int64_t k : {4, 9}) {
                for (const int32_t b_layout : {MOEK_B_LAYOUT_OUT_BY_RANK, MOEK_B_LAYOUT_RANK_BY_OUT}) {
                    Shape shape = {33, 70, 45, 16, k, gate, dtypes, b_layout};
                    shape.padding = 3;
                    shape.dropout_p = k == 4 ? 0 : 0.1;
                    shape.temperature = 1;
                    Call call(shape, random_);
                    expect_reference(call, context_);
                    if (HasFailure()) return;
                }
            }
        }
    }
}

TEST_P(RankLoraOnIsa, AgreesWithTheReferenceForEveryShape) {
    struct Size {
        int64_t T, d_in, d_out, r, k;
    };
    // One token; more tokens than a block; widths around the registers' and the strips'; one rank; all ranks.
    const std::vector<Size> sizes = {{1, 1, 1, 1, 1},      {2, 3, 17, 1, 1},      {1, 130, 130, 64, 8},
                                     {7, 17, 3, 5, 5},     {70, 130, 257, 64, 8}, {300, 33, 130, 12, 2},
                                     {140, 520, 31, 7, 3}, {65, 64, 128, 128, 4}, {3, 1, 300, 33, 16},
                                     {270, 5, 5, 3, 3},    {1, 17, 17, 16, 16}};
    for (const Size& size : sizes) {
        for (const int64_t padding : {0, 5}) {
            for (const int32_t b_layout : {MOEK_B_LAYOUT_OUT_BY_RANK, MOEK_B_LAYOUT_RANK_BY_OUT}) {
                for (const int32_t dtype : on_this_device({MOEK_DTYPE_F64, MOEK_DTYPE_F32})) {
                    Shape shape = {size.T, size.d_in, size.d_out, size.r, size.k, kSmora, uniform(dtype), b_layout};
                    shape.padding = padding;
                    shape.dropout_p = padding == 0 ? 0 : 0.2;
                    Call call(shape, random_);
                    expect_reference(call, context_);
                    if (HasFailure()) return;
                }
            }
        }
    }
}

// More tokens than the kernels for a few take, in every type that a tensor core reads.
TEST_P(RankLoraOnIsa, AgreesWithTheReferenceForEveryDtypeOverManyRows) {
    for (const Dtypes& dtypes : {uniform(MOEK_DTYPE_BF16), mixed(MOEK_DTYPE_F16)}) {
        for (const Gate& gate : {kSmora, Gate{MOEK_RANK_GATE_CALLER}, Gate{MOEK_RANK_GATE_ACTIVATION_SOFTMAX}}) {
            const Shape shape = {70, 41, 30, 16, 4, gate, dtypes};
            Call call(shape, random_);
            expect_reference(call, context_);
            if (HasFailure()) return;
        }
    }
}

// What tf32 holds: 10 bits of fraction. Inputs of these are read as they are, so that the selection is that of the reference.
void round_to_tf32(Tensor& tensor) {
    std::vector<double> values = tensor.values();
    for (double& value : values) {
        int exponent = 0;
        const double significand = std::frexp(value, &exponent);
        value = std::ldexp(std::nearbyint(std::ldexp(significand, 11)), exponent - 11);
    }
    tensor.assign(values);
}

TEST_P(RankLoraOnIsa, AgreesWithTheReferenceForEveryDtypeOnTf32) {
    for (const int64_t T : {9, 70}) {
        for (const Gate& gate : {kSmora, Gate{MOEK_RANK_GATE_CALLER}, Gate{MOEK_RANK_GATE_ACTIVATION_SOFTMAX}}) {
            for (const int32_t b_layout : {MOEK_B_LAYOUT_OUT_BY_RANK, MOEK_B_LAYOUT_RANK_BY_OUT}) {
                const Shape shape = {T, 67, 45, 19, 4, gate, uniform(MOEK_DTYPE_F32), b_layout};
                Call call(shape, random_);
                call.flags = MOEK_CALL_FLAG_ALLOW_TF32;
                for (Tensor* input : {&call.x, &call.A, &call.B, &call.W_r, &call.dy}) round_to_tf32(*input);
                expect_reference(call, context_);
                if (HasFailure()) return;
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Hand vectors and formulas
// ---------------------------------------------------------------------------------------------------------------------

Call hand_call(Random& random) {
    Shape shape = {1, 2, 2, 3, 2, kSmora};
    shape.scale = 4.0 / 2;
    shape.temperature = 1;
    Call call(shape, random);
    call.x.assign({1, -2});
    call.A.assign({1, 0, .5, .5, 0, -1});
    call.B.assign({1, 2, 3, 0, -1, 1});
    call.W_r.assign({.2, .1, -.3, .4, 0, -.5});
    call.bias.assign({0, .01, -.02});
    call.dy.assign({1, 1});
    return call;
}

TEST_P(RankLoraOnIsa, SmoraHandVector) {
    Call call = hand_call(random_);
    Outputs out = call.forward(context_);
    EXPECT_EQ(out.ids.values(), (std::vector<int32_t>{2, 0}));
    EXPECT_EQ(out.counts.values(), (std::vector<int32_t>{1, 0, 1}));
    EXPECT_TRUE(near(out.gates, {1.1742761105, 0.8257238895}, 0, fine(1e-9)));
    EXPECT_TRUE(near(out.u, {2, 1}, 0, fine(1e-9)));
    EXPECT_TRUE(near(out.y, {15.7427611047, 4.6971044419}, 0, fine(1e-9)));
    const Gradients gradients = call.backward(context_, out);
    EXPECT_TRUE(near(gradients.dx, {0.9727082929, -10.6719561849}, 0, fine(1e-9)));
    EXPECT_TRUE(near(gradients.dA, {1.6514477791, -3.3028955581, 0, 0, 9.3942088837, -18.7884177675}, 0, fine(1e-9)));
    EXPECT_TRUE(near(gradients.dB, {1.6514477791, 0, 4.6971044419, 1.6514477791, 0, 4.6971044419}, 0, fine(1e-9)));
    EXPECT_TRUE(near(gradients.dW_r, {-3.3936974306, 6.7873948612, 0, 0, 1.8767551162, -3.7535102323}, 0, fine(1e-9)));
}

TEST_P(RankLoraOnIsa, GradientsEqualFiniteDifferences) {
    for (const Gate& gate : all_gates()) {
        for (const int64_t k : {2, 5}) {
            Shape shape;
            shape.T = 3;
            shape.gate = gate;
            shape.k = k;
            shape.dropout_p = k == 2 ? 0 : 0.3;
            // A partition cut in two is decided by the bias alone; without one it would be a tie.
            if (gate.rank_partition > 1 && gate.bias_mode == MOEK_BIAS_MODE_NONE) continue;
            for (const bool separate : {false, true}) {
                if (separate && gate.source != MOEK_RANK_GATE_ROUTER) continue;
                shape.separate_router_input = separate;
                SCOPED_TRACE(shape.text());
                Call call(shape, random_);
                Outputs out = call.forward(context_);
                const std::vector<int32_t> ids = out.ids.values();
                const Gradients gradients = call.backward(context_, out);
                const std::vector<double> dy = call.dy.values();
                bool moved = false;
                // One workspace and one set of outputs for thousands of calls.
                Outputs now = call.make_outputs();
                moek_rank_lora_args args = call.args();
                Call::point_to(now, args);
                uint64_t bytes = 0;
                ASSERT_EQ(moek_rank_lora_forward_workspace(context_, &args, &bytes), MOEK_STATUS_CODE_OK);
                std::vector<unsigned char> workspace(bytes);
                const auto loss = [&] {
                    if (gate.source == MOEK_RANK_GATE_CALLER) args.gates = call.caller_gates.data();
                    EXPECT_EQ(moek_rank_lora_forward(context_, &args, workspace.data(), bytes, nullptr),
                              MOEK_STATUS_CODE_OK)
                        << last_error();
                    moved |= now.ids.values() != ids;
                    const std::vector<double> y = now.y.values();
                    return std::inner_product(y.begin(), y.end(), dy.begin(), 0.0);
                };
                const auto check = [&](Tensor& parameter, const Tensor& gradient, const char* name) {
                    for (int64_t i = 0; i < parameter.rows(); ++i) {
                        for (int64_t j = 0; j < parameter.columns(); j += 2) {
                            const double kept = parameter.at(i, j);
                            constexpr double kStep = 1e-4;
                            const auto at = [&](double offset) {
                                parameter.set(i, j, kept + offset);
                                const double value = loss();
                                parameter.set(i, j, kept);
                                return value;
                            };
                            moved = false;
                            const double near_difference = at(kStep) - at(-kStep);
                            const double far_difference = at(2 * kStep) - at(-2 * kStep);
                            const double expected = (8 * near_difference - far_difference) / (12 * kStep);
                            // The gradient takes the selection as constant.
                            if (moved) continue;
                            ASSERT_NEAR(gradient.at(i, j), expected, 2e-8 * (1 + std::fabs(expected)))
                                << name << " at [" << i << ", " << j << "]";
                        }
                    }
                };
                check(call.x, gradients.dx, "dx");
                check(call.A, gradients.dA, "dA");
                check(call.B, gradients.dB, "dB");
                check(call.W_r, gradients.dW_r, "dW_r");
                check(call.router_input, gradients.drouter_input, "drouter_input");
                check(call.caller_gates, gradients.dgates, "dgates");
                if (HasFailure()) return;
            }
        }
    }
}

// MoRA's gate gradient as the paper's notes state it, without normalisation: ds_i = w_i (dw_i - sum w dw) / tau,
// da_i = (ds_i - s_i sum_m s_m ds_m) / |a| + [kept] w_i B_i . dy.
TEST_P(RankLoraOnIsa, MoraGateGradient) {
    Shape shape;
    shape.T = 1;
    shape.gate = {MOEK_RANK_GATE_ACTIVATION_SOFTMAX};
    shape.scale = 1;
    Call call(shape, random_);
    Outputs out = call.forward(context_);
    const Gradients gradients = call.backward(context_, out);
    const int64_t r = shape.r;
    std::vector<double> a(static_cast<size_t>(r)), s(a), w(a), up(a), dw(a), da(a);
    double squares = 0, mass = 0, mean = 0, projection = 0;
    const auto index = [](int64_t i) { return static_cast<size_t>(i); };
    for (int64_t i = 0; i < r; ++i) {
        for (int64_t c = 0; c < shape.d_in; ++c) a[index(i)] += call.A.at(i, c) * call.x.at(0, c);
        for (int64_t o = 0; o < shape.d_out; ++o) up[index(i)] += call.B.at(o, i) * call.dy.at(0, o);
        squares += a[index(i)] * a[index(i)];
    }
    const double norm = std::sqrt(squares);
    for (int64_t i = 0; i < r; ++i) {
        s[index(i)] = a[index(i)] / norm;
        w[index(i)] = std::exp(s[index(i)] / shape.temperature);
        mass += w[index(i)];
    }
    for (double& value : w) value /= mass;
    for (int64_t j = 0; j < shape.k; ++j) {
        const auto i = static_cast<size_t>(out.ids.at(0, j));
        EXPECT_NEAR(out.gates.at(0, j), w[i], fine(1e-14));
        dw[i] = a[i] * up[i];
        da[i] = w[i] * up[i];
    }
    for (int64_t i = 0; i < r; ++i) mean += w[index(i)] * dw[index(i)];
    std::vector<double> ds(a);
    for (int64_t i = 0; i < r; ++i) {
        ds[index(i)] = w[index(i)] * (dw[index(i)] - mean) / shape.temperature;
        projection += s[index(i)] * ds[index(i)];
    }
    for (int64_t i = 0; i < r; ++i) {
        da[index(i)] += (ds[index(i)] - s[index(i)] * projection) / norm;
        for (int64_t c = 0; c < shape.d_in; ++c) {
            EXPECT_NEAR(gradients.dA.at(i, c), da[index(i)] * call.x.at(0, c), fine(1e-12));
        }
    }
}

TEST_P(RankLoraOnIsa, FlyLoraTakesSignedOrAbsoluteActivations) {
    for (const int32_t source : {MOEK_RANK_GATE_ACTIVATION_SIGNED, MOEK_RANK_GATE_ACTIVATION_ABSOLUTE}) {
        Shape shape = {1, 1, 2, 6, 3, {source}};
        Call call(shape, random_);
        call.x.assign({1});
        call.A.assign({0.5, -3, 2, -0.1, 0, 1});
        const Outputs out = call.forward(context_);
        EXPECT_EQ(out.ids.values(), source == MOEK_RANK_GATE_ACTIVATION_SIGNED ? (std::vector<int32_t>{2, 5, 0})
                                                                               : (std::vector<int32_t>{1, 2, 5}));
        EXPECT_TRUE(near(out.gates, {1, 1, 1}, 0, 0));

        // The bias selects; the value stays the unbiased activation.
        shape.gate.bias_mode = MOEK_BIAS_MODE_SELECTION;
        Call biased(shape, random_);
        biased.x.assign({1});
        biased.A.assign({0.5, -3, 2, -0.1, 0, 1});
        biased.bias.assign({0, 0, 0, 0, 50, 0});
        const Outputs with_bias = biased.forward(context_);
        EXPECT_EQ(with_bias.ids.at(0, 0), 4);
        EXPECT_EQ(with_bias.u.at(0, 0), 0);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Identities
// ---------------------------------------------------------------------------------------------------------------------

std::vector<double> plain_lora(const Call& call, double scale) {
    std::vector<double> y;
    for (int64_t t = 0; t < call.shape.T; ++t) {
        for (int64_t o = 0; o < call.shape.d_out; ++o) {
            double sum = 0;
            for (int64_t i = 0; i < call.shape.r; ++i) {
                double u = 0;
                for (int64_t c = 0; c < call.shape.d_in; ++c) u += call.A.at(i, c) * call.x.at(t, c);
                sum += call.B.at(o, i) * u;
            }
            y.push_back(scale * sum);
        }
    }
    return y;
}

TEST_P(RankLoraOnIsa, AllRanksWithAnIndifferentRouterArePlainLora) {
    Shape shape;
    shape.k = shape.r;
    shape.gate.bias_mode = MOEK_BIAS_MODE_NONE;
    Call call(shape, random_);
    call.W_r.fill(0);
    EXPECT_TRUE(agrees(call.forward(context_).y, plain_lora(call, shape.scale)));
}

TEST_P(RankLoraOnIsa, AZeroBGivesZeroAndTrainsOnlyB) {
    for (const int64_t k : {2, 6}) {
        Shape shape;
        shape.k = k;
        Call call(shape, random_);
        call.B.fill(0);
        Outputs out = call.forward(context_);
        EXPECT_TRUE(near(out.y, std::vector<double>(out.y.values().size(), 0.0), 0, 0));
        const Gradients gradients = call.backward(context_, out);
        for (const Tensor* zero : {&gradients.dA, &gradients.dW_r, &gradients.dx}) {
            EXPECT_TRUE(near(*zero, std::vector<double>(zero->values().size(), 0.0), 0, 0));
        }
        EXPECT_GT(largest(gradients.dB.values()), 1);
    }
}

TEST_P(RankLoraOnIsa, PermutingRanksChangesNothing) {
    for (const int64_t k : {2, 5}) {
        Shape shape;
        shape.k = k;
        Call call(shape, random_);
        Call permuted = call;
        const std::vector<int64_t> order = {3, 5, 0, 4, 1, 2};
        for (int64_t i = 0; i < shape.r; ++i) {
            const int64_t from = order[static_cast<size_t>(i)];
            for (int64_t c = 0; c < shape.d_in; ++c) {
                permuted.A.set(i, c, call.A.at(from, c));
                permuted.W_r.set(i, c, call.W_r.at(from, c));
            }
            for (int64_t o = 0; o < shape.d_out; ++o) permuted.B.set(o, i, call.B.at(o, from));
            permuted.bias.set(0, i, call.bias.at(0, from));
        }
        Outputs out = call.forward(context_);
        Outputs permuted_out = permuted.forward(context_);
        EXPECT_TRUE(agrees(permuted_out.y, out.y.values()));
        const Gradients gradients = call.backward(context_, out);
        const Gradients permuted_gradients = permuted.backward(context_, permuted_out);
        EXPECT_TRUE(agrees(permuted_gradients.dx, gradients.dx.values()));
        for (int64_t i = 0; i < shape.r; ++i) {
            for (int64_t c = 0; c < shape.d_in; ++c) {
                EXPECT_NEAR(permuted_gradients.dA.at(i, c), gradients.dA.at(order[static_cast<size_t>(i)], c),
                            fine(1e-11));
            }
        }
    }
}

TEST_P(RankLoraOnIsa, NormalisedGatesSumToTheirTotal) {
    for (const int32_t normalize : {MOEK_GATE_NORMALIZE_SUM_TO_ONE, MOEK_GATE_NORMALIZE_SUM_TO_K}) {
        Shape shape;
        shape.gate.normalize = normalize;
        Call call(shape, random_);
        const Outputs out = call.forward(context_);
        const double total = normalize == MOEK_GATE_NORMALIZE_SUM_TO_K ? static_cast<double>(shape.k) : 1.0;
        for (int64_t t = 0; t < shape.T; ++t) {
            double sum = 0;
            for (int64_t j = 0; j < shape.k; ++j) sum += out.gates.at(t, j);
            EXPECT_NEAR(sum, total, fine(1e-12));
        }
    }
}

// The sparse and the dense plan compute the same function: k ranks of 2k + 1, then the same with the unselected ranks
// taken out, so that every rank is selected.
TEST_P(RankLoraOnIsa, SparseEqualsDense) {
    Shape shape = {9, 40, 50, 9, 4, {MOEK_RANK_GATE_CALLER}};
    Call sparse(shape, random_);
    for (int64_t t = 0; t < shape.T; ++t) {
        for (int64_t j = 0; j < shape.k; ++j) {
            sparse.caller_ids.data()[t * shape.k + j] = static_cast<int32_t>((t + j) % shape.k);
        }
    }
    Call dense = sparse;
    dense.shape.r = shape.k;
    dense.A = Tensor(finest_dtype(), shape.k, shape.d_in);
    dense.B = Tensor(finest_dtype(), shape.d_out, shape.k);
    for (int64_t i = 0; i < shape.k; ++i) {
        for (int64_t c = 0; c < shape.d_in; ++c) dense.A.set(i, c, sparse.A.at(i, c));
        for (int64_t o = 0; o < shape.d_out; ++o) dense.B.set(o, i, sparse.B.at(o, i));
    }
    Outputs a = sparse.forward(context_);
    Outputs b = dense.forward(context_);
    EXPECT_TRUE(agrees(b.y, a.y.values()));
    const Gradients da = sparse.backward(context_, a);
    const Gradients db = dense.backward(context_, b);
    EXPECT_TRUE(agrees(db.dx, da.dx.values()));
    for (int64_t i = 0; i < shape.r; ++i) {
        for (int64_t c = 0; c < shape.d_in; ++c) {
            EXPECT_NEAR(da.dA.at(i, c), i < shape.k ? db.dA.at(i, c) : 0.0, fine(1e-11));
        }
    }
}

TEST_P(RankLoraOnIsa, ScaleZeroGivesZero) {
    for (const int64_t k : {2, 6}) {
        Shape shape;
        shape.k = k;
        shape.scale = 0;
        Call call(shape, random_);
        Outputs out = call.forward(context_);
        const Gradients gradients = call.backward(context_, out);
        for (const Tensor* zero : std::initializer_list<const Tensor*>{&out.y, &gradients.dx, &gradients.dA,
                                                                       &gradients.dB, &gradients.dW_r}) {
            EXPECT_TRUE(near(*zero, std::vector<double>(zero->values().size(), 0.0), 0, 0));
        }
    }
}

TEST_P(RankLoraOnIsa, AccumulatesOnlyWhereAsked) {
    for (const Dtypes& dtypes : {uniform(finest_dtype()), mixed(MOEK_DTYPE_BF16)}) {
        for (const int64_t k : {2, 6}) {
            for (const int32_t b_layout : {MOEK_B_LAYOUT_OUT_BY_RANK, MOEK_B_LAYOUT_RANK_BY_OUT}) {
                Shape shape;
                shape.dtypes = dtypes;
                shape.k = k;
                shape.b_layout = b_layout;
                shape.separate_router_input = true;
                Call call(shape, random_);
                Outputs out = call.forward(context_);
                const Gradients plain = call.backward(context_, out);
                const auto sum = [](const Tensor& old, const Tensor& added) {
                    std::vector<double> result = old.values();
                    const std::vector<double> values = added.values();
                    for (size_t i = 0; i < result.size(); ++i) result[i] += values[i];
                    return result;
                };
                const auto refill = [&](Tensor& tensor) {
                    tensor.assign(random_.normals(tensor.rows() * tensor.columns()));
                };
                // The single result is itself rounded once.
                const auto close = [](const Tensor& got, const std::vector<double>& expected, const Tensor& added) {
                    return near(got, expected, epsilon(got.dtype()),
                                epsilon(got.dtype()) * largest(added.values()) + 1e-5 * largest(expected));
                };

                call.flags = MOEK_CALL_FLAG_ACCUMULATE_OUTPUT | MOEK_CALL_FLAG_ACCUMULATE_COUNTS;
                Outputs added = call.make_outputs();
                refill(added.y);
                added.counts.fill(100);
                const Tensor old_y = added.y;
                ASSERT_EQ(call.try_forward(context_, added), MOEK_STATUS_CODE_OK) << last_error();
                EXPECT_TRUE(close(added.y, sum(old_y, out.y), out.y));
                for (int64_t i = 0; i < shape.r; ++i) EXPECT_EQ(added.counts.at(0, i), 100 + out.counts.at(0, i));

                Gradients gradients = call.make_gradients();
                refill(gradients.dx);
                refill(gradients.drouter_input);
                const Gradients old_tokens = gradients;
                ASSERT_EQ(call.try_backward(context_, out, gradients), MOEK_STATUS_CODE_OK) << last_error();
                EXPECT_TRUE(close(gradients.dx, sum(old_tokens.dx, plain.dx), plain.dx));
                EXPECT_TRUE(close(gradients.drouter_input, sum(old_tokens.drouter_input, plain.drouter_input),
                                  plain.drouter_input));
                EXPECT_TRUE(gradients.dA.same_bits(plain.dA));
                EXPECT_TRUE(gradients.dB.same_bits(plain.dB));

                call.flags = MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS;
                gradients = call.make_gradients();
                for (Tensor* tensor : {&gradients.dA, &gradients.dB, &gradients.dW_r}) refill(*tensor);
                const Gradients old_weights = gradients;
                ASSERT_EQ(call.try_backward(context_, out, gradients), MOEK_STATUS_CODE_OK) << last_error();
                EXPECT_TRUE(close(gradients.dA, sum(old_weights.dA, plain.dA), plain.dA));
                EXPECT_TRUE(close(gradients.dB, sum(old_weights.dB, plain.dB), plain.dB));
                EXPECT_TRUE(close(gradients.dW_r, sum(old_weights.dW_r, plain.dW_r), plain.dW_r));
                EXPECT_TRUE(gradients.dx.same_bits(plain.dx));
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Determinism
// ---------------------------------------------------------------------------------------------------------------------

std::vector<Shape> shapes_of_every_path() {
    std::vector<Shape> shapes;
    for (const Gate& gate : {kSmora, Gate{MOEK_RANK_GATE_ROUTER, MOEK_GATE_SCORE_SOFTMAX},
                             Gate{MOEK_RANK_GATE_ACTIVATION_SIGNED}, Gate{MOEK_RANK_GATE_ACTIVATION_SOFTMAX}}) {
        for (const int64_t k : {4, 12}) {
            for (const Dtypes& dtypes : {uniform(MOEK_DTYPE_F32), mixed(MOEK_DTYPE_BF16)}) {
                Shape shape = {300, 150, 270, 16, k, gate, dtypes};
                shape.dropout_p = k == 4 ? 0 : 0.2;
                shapes.push_back(shape);
            }
        }
    }
    return shapes;
}

TEST_P(RankLoraOnIsa, ThreadsChangeNoBit) {
    for (const Shape& shape : shapes_of_every_path()) {
        SCOPED_TRACE(shape.text());
        Call call(shape, random_);
        const Context one(1, GetParam());
        Outputs expected = call.forward(one);
        const Gradients expected_gradients = call.backward(one, expected);
        for (const int32_t threads : {2, 3, 8}) {
            const Context several(threads, GetParam());
            Outputs out = call.forward(several);
            EXPECT_TRUE(out.y.same_bits(expected.y));
            EXPECT_TRUE(out.gates.same_bits(expected.gates));
            EXPECT_TRUE(out.u.same_bits(expected.u));
            EXPECT_EQ(out.ids.values(), expected.ids.values());
            EXPECT_EQ(out.counts.values(), expected.counts.values());
            const Gradients gradients = call.backward(several, out);
            EXPECT_TRUE(gradients.dx.same_bits(expected_gradients.dx));
            EXPECT_TRUE(gradients.dA.same_bits(expected_gradients.dA));
            EXPECT_TRUE(gradients.dB.same_bits(expected_gradients.dB));
            EXPECT_TRUE(gradients.dW_r.same_bits(expected_gradients.dW_r));
            EXPECT_TRUE(gradients.dgates.same_bits(expected_gradients.dgates));
        }
    }
}

// A token alone, and the same token at several places of batches of several sizes.
TEST_P(RankLoraOnIsa, NeighboursChangeNoBit) {
    for (Shape shape : shapes_of_every_path()) {
        shape.dropout_p = 0;  // its mask depends on the token's place
        SCOPED_TRACE(shape.text());
        Call call(shape, random_);
        call.flags = MOEK_CALL_FLAG_BATCH_INVARIANT;
        const auto take_row = [](const Tensor& from, int64_t row) {
            Tensor result(from.dtype(), 1, from.columns());
            for (int64_t c = 0; c < from.columns(); ++c) result.set(0, c, from.at(row, c));
            return result;
        };
        Call alone = call;
        alone.shape.T = 1;
        alone.x = take_row(call.x, 0);
        alone.dy = take_row(call.dy, 0);
        Outputs expected = alone.forward(context_);
        const Gradients expected_gradients = alone.backward(context_, expected);
        struct Place {
            int64_t T, at;
        };
        // The first, the last and one in the middle, on both sides of a tile's and a block's bounds.
        for (const auto [T, place] : std::initializer_list<Place>{
                 {2, 0}, {2, 1}, {15, 7}, {33, 0}, {33, 32}, {130, 65}, {130, 129}, {300, 150}}) {
            Call batch = call;
            batch.shape.T = T;
            batch.x = Tensor(shape.dtypes.x, T, shape.d_in, random_.normals(T * shape.d_in));
            batch.dy = Tensor(shape.dtypes.y, T, shape.d_out, random_.normals(T * shape.d_out));
            for (int64_t c = 0; c < shape.d_in; ++c) batch.x.set(place, c, alone.x.at(0, c));
            for (int64_t c = 0; c < shape.d_out; ++c) batch.dy.set(place, c, alone.dy.at(0, c));
            Outputs out = batch.forward(context_);
            EXPECT_TRUE(take_row(out.y, place).same_bits(expected.y)) << "T " << T << " place " << place;
            const Gradients gradients = batch.backward(context_, out);
            EXPECT_TRUE(take_row(gradients.dx, place).same_bits(expected_gradients.dx))
                << "T " << T << " place " << place;
        }
        if (HasFailure()) return;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Edges
// ---------------------------------------------------------------------------------------------------------------------

TEST_P(RankLoraOnIsa, NegativeSumsKeepTheirSigns) {
    Shape shape;
    shape.T = 1;
    shape.temperature = 1;
    shape.gate.normalize = MOEK_GATE_NORMALIZE_SUM_TO_ONE;
    Call call(shape, random_);
    call.W_r.fill(0);
    call.bias.assign({-0.4, -0.7, -0.45, -1, -1, -1});  // scores 0.1, -0.2, 0.05, ...
    Outputs out = call.forward(context_);
    EXPECT_EQ(out.ids.values(), (std::vector<int32_t>{0, 2, 1}));
    EXPECT_TRUE(near(out.gates, {0.1 / -0.05, 0.05 / -0.05, -0.2 / -0.05}, 0, fine(1e-12)));
    expect_reference(call, context_);
}

TEST_P(RankLoraOnIsa, AZeroSumGivesZeroWeightsAndGradients) {
    Shape shape;
    shape.T = 1;
    Call call(shape, random_);
    call.W_r.fill(0);
    call.bias.assign({-0.25, -0.25, -1, -9, -9, -9});  // scores 0.25, 0.25, -0.5
    Outputs out = call.forward(context_);
    EXPECT_TRUE(near(out.gates, {0, 0, 0}, 0, 0));
    EXPECT_TRUE(near(out.y, std::vector<double>(6, 0.0), 0, 0));
    const Gradients gradients = call.backward(context_, out);
    for (const Tensor* zero : {&gradients.dx, &gradients.dA, &gradients.dW_r, &gradients.dB}) {
        EXPECT_TRUE(near(*zero, std::vector<double>(zero->values().size(), 0.0), 0, 0));
    }
}

// A token of NaN weighs nothing: its y and dx are zero, and nobody else's gradient feels it.
TEST_P(RankLoraOnIsa, ANanTokenHurtsNobody) {
    for (const Gate& gate :
         {kSmora, Gate{MOEK_RANK_GATE_ROUTER, MOEK_GATE_SCORE_SOFTMAX}, Gate{MOEK_RANK_GATE_ACTIVATION_SIGNED},
          Gate{MOEK_RANK_GATE_ACTIVATION_ABSOLUTE}, Gate{MOEK_RANK_GATE_ACTIVATION_SOFTMAX}}) {
        for (const int64_t k : {2, 5}) {
            Shape shape;
            shape.gate = gate;
            shape.k = k;
            SCOPED_TRACE(shape.text());
            Call call(shape, random_);
            Call without = call;
            for (int64_t c = 0; c < shape.d_in; ++c) call.x.set(2, c, kNan);
            for (int64_t o = 0; o < shape.d_out; ++o) without.dy.set(2, o, 0);
            Outputs out = call.forward(context_);
            Outputs without_out = without.forward(context_);
            for (int64_t o = 0; o < shape.d_out; ++o) EXPECT_EQ(out.y.at(2, o), 0);
            for (int64_t j = 0; j < k; ++j) {
                EXPECT_EQ(out.gates.at(2, j), 0);
                EXPECT_EQ(out.ids.at(2, j), j);
            }
            const Gradients gradients = call.backward(context_, out);
            const Gradients expected = without.backward(context_, without_out);
            for (int64_t c = 0; c < shape.d_in; ++c) EXPECT_EQ(gradients.dx.at(2, c), 0);
            EXPECT_TRUE(agrees(gradients.dA, expected.dA.values()));
            EXPECT_TRUE(agrees(gradients.dB, expected.dB.values()));
            EXPECT_TRUE(agrees(gradients.dW_r, expected.dW_r.values()));

            if (on_cuda()) continue;  // cannot report what it finds
            call.flags = MOEK_CALL_FLAG_STRICT;
            Outputs strict = call.make_outputs();
            EXPECT_EQ(call.try_forward(context_, strict), MOEK_STATUS_CODE_NUMERIC) << last_error();
            const Outputs untouched = call.make_outputs();
            EXPECT_TRUE(strict.y.same_bits(untouched.y));
            EXPECT_TRUE(strict.gates.same_bits(untouched.gates));
            EXPECT_TRUE(strict.gate_logits.same_bits(untouched.gate_logits));
            EXPECT_EQ(strict.ids.values(), untouched.ids.values());
            EXPECT_EQ(strict.counts.values(), untouched.counts.values());
            if (out.gate_logits.columns() == 0) continue;
            Gradients strict_gradients = call.make_gradients();
            EXPECT_EQ(call.try_backward(context_, out, strict_gradients), MOEK_STATUS_CODE_NUMERIC) << last_error();
            EXPECT_TRUE(strict_gradients.dA.same_bits(call.make_gradients().dA));
        }
    }
}

TEST_P(RankLoraOnIsa, AZeroGateContributesNothingWhateverItGates) {
    for (const int64_t k : {2, 5}) {
        Shape shape;
        shape.gate = {MOEK_RANK_GATE_CALLER};
        shape.k = k;
        Call call(shape, random_);
        for (int64_t c = 0; c < shape.d_in; ++c) call.x.set(1, c, kNan);
        for (int64_t j = 0; j < k; ++j) call.caller_gates.set(1, j, 0);
        Outputs out = call.forward(context_);
        for (int64_t o = 0; o < shape.d_out; ++o) EXPECT_EQ(out.y.at(1, o), 0);
        const Gradients gradients = call.backward(context_, out);
        for (const Tensor* tensor : {&gradients.dx, &gradients.dA, &gradients.dB, &gradients.dgates}) {
            for (const double value : tensor->values()) EXPECT_TRUE(std::isfinite(value));
        }
    }
}

TEST_P(RankLoraOnIsa, NoTokens) {
    for (const int32_t source : {MOEK_RANK_GATE_ROUTER, MOEK_RANK_GATE_CALLER, MOEK_RANK_GATE_ACTIVATION_SIGNED}) {
        Shape shape;
        shape.T = 0;
        shape.gate = {source};
        Call call(shape, random_);
        Outputs out = call.forward(context_);
        EXPECT_EQ(out.counts.values(), std::vector<int32_t>(6, 0));
        Gradients gradients = call.backward(context_, out);
        for (const Tensor* zero : {&gradients.dA, &gradients.dB, &gradients.dW_r}) {
            EXPECT_TRUE(near(*zero, std::vector<double>(zero->values().size(), 0.0), 0, 0));
        }
        call.flags = MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS | MOEK_CALL_FLAG_ACCUMULATE_COUNTS;
        gradients.dA.fill(3);
        out.counts.fill(4);
        ASSERT_EQ(call.try_forward(context_, out), MOEK_STATUS_CODE_OK) << last_error();
        ASSERT_EQ(call.try_backward(context_, out, gradients), MOEK_STATUS_CODE_OK) << last_error();
        EXPECT_EQ(out.counts.values(), std::vector<int32_t>(6, 4));
        EXPECT_EQ(gradients.dA.at(2, 2), 3);
    }
}

// Each optional output left out, the others unchanged.
TEST_P(RankLoraOnIsa, OptionalOutputs) {
    for (const Gate& gate :
         {kSmora, Gate{MOEK_RANK_GATE_ROUTER, MOEK_GATE_SCORE_SOFTMAX}, Gate{MOEK_RANK_GATE_ACTIVATION_SOFTMAX}}) {
        for (const int64_t k : {2, 5}) {
            Shape shape;
            shape.gate = gate;
            shape.k = k;
            shape.separate_router_input = gate.source == MOEK_RANK_GATE_ROUTER;
            Call call(shape, random_);
            Outputs expected = call.forward(context_);
            Outputs out = call.make_outputs();
            moek_rank_lora_args args = call.args();
            Call::point_to(out, args);
            args.u = args.gate_logits = args.counts = nullptr;
            ASSERT_EQ(run(moek_rank_lora_forward_workspace, moek_rank_lora_forward, context_, args),
                      MOEK_STATUS_CODE_OK)
                << last_error();
            EXPECT_TRUE(out.y.same_bits(expected.y));
            EXPECT_TRUE(out.gates.same_bits(expected.gates));

            const Gradients all = call.backward(context_, expected);
            void* moek_rank_lora_args::*const fields[] = {
                &moek_rank_lora_args::dx, &moek_rank_lora_args::drouter_input, &moek_rank_lora_args::dA,
                &moek_rank_lora_args::dB, &moek_rank_lora_args::dW_r,          &moek_rank_lora_args::dgates};
            Tensor Gradients::*const tensors[] = {&Gradients::dx, &Gradients::drouter_input, &Gradients::dA,
                                                  &Gradients::dB, &Gradients::dW_r,          &Gradients::dgates};
            for (size_t only = 0; only < 6; ++only) {
                for (const bool invert : {false, true}) {
                    Gradients some = call.make_gradients();
                    const Gradients poison = call.make_gradients();
                    moek_rank_lora_args backward = call.backward_args(expected, some);
                    for (size_t i = 0; i < 6; ++i) {
                        if ((i == only) == invert) backward.*fields[i] = nullptr;
                    }
                    ASSERT_EQ(run(moek_rank_lora_backward_workspace, moek_rank_lora_backward, context_, backward),
                              MOEK_STATUS_CODE_OK)
                        << last_error();
                    for (size_t i = 0; i < 6; ++i) {
                        const Tensor& wanted = (i == only) == invert ? poison.*tensors[i] : all.*tensors[i];
                        EXPECT_TRUE((some.*tensors[i]).same_bits(wanted)) << "output " << i << " with only " << only;
                    }
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Bad arguments
// ---------------------------------------------------------------------------------------------------------------------

class RankLoraArguments : public testing::Test {
  protected:
    RankLoraArguments() : call_(make_shape(), random_), saved_(call_.forward(context_)) {
        gradients_ = call_.make_gradients();
    }

    static Shape make_shape() {
        Shape shape;
        shape.separate_router_input = true;
        return shape;
    }

    moek_rank_lora_args forward_args() {
        moek_rank_lora_args args = call_.args();
        Call::point_to(saved_, args);
        return args;
    }

    using Change = std::function<void(moek_rank_lora_args&)>;

    void expect_both(const Change& change, const std::string& part) {
        expect_forward(change, part);
        expect_backward(change, part);
    }
    void expect_forward(const Change& change, const std::string& part) {
        moek_rank_lora_args args = forward_args();
        change(args);
        expect(moek_rank_lora_forward_workspace, moek_rank_lora_forward, args, part);
    }
    void expect_backward(const Change& change, const std::string& part) {
        moek_rank_lora_args args = call_.backward_args(saved_, gradients_);
        change(args);
        expect(moek_rank_lora_backward_workspace, moek_rank_lora_backward, args, part);
    }

    template <class Query, class Run>
    void expect(Query query, Run op, const moek_rank_lora_args& args, const std::string& part) {
        const Tensor y = saved_.y, dA = gradients_.dA, dx = gradients_.dx;
        (void)query;
        GuardedBytes workspace(size_t{1} << 24);
        MOEK_EXPECT_ERROR(op(context_, &args, workspace.data(), workspace.size(), nullptr),
                          MOEK_STATUS_CODE_INVALID_ARGUMENT, part + ": got");
        EXPECT_TRUE(saved_.y.same_bits(y));
        EXPECT_TRUE(gradients_.dA.same_bits(dA));
        EXPECT_TRUE(gradients_.dx.same_bits(dx));
    }

    Random random_;
    Context context_;
    Call call_;
    Outputs saved_;
    Gradients gradients_;
};

TEST_F(RankLoraArguments, TheUnchangedCallsSucceed) {
    const moek_rank_lora_args forward = forward_args();
    EXPECT_EQ(run(moek_rank_lora_forward_workspace, moek_rank_lora_forward, context_, forward), MOEK_STATUS_CODE_OK);
    const moek_rank_lora_args backward = call_.backward_args(saved_, gradients_);
    EXPECT_EQ(run(moek_rank_lora_backward_workspace, moek_rank_lora_backward, context_, backward), MOEK_STATUS_CODE_OK);
}

TEST_F(RankLoraArguments, Scalars) {
    using Args = moek_rank_lora_args;
    expect_both([](Args& a) { a.struct_size = 2; }, "args->struct_size");
    expect_both([](Args& a) { a.flags = 1u << 20; }, "flags");
    expect_both([](Args& a) { a.T = -1; }, "T");
    expect_both([](Args& a) { a.d_in = 0; }, "d_in");
    expect_both([](Args& a) { a.d_out = 0; }, "d_out");
    expect_both([](Args& a) { a.r = 0; }, "r");
    expect_both([](Args& a) { a.r = MOEK_MAX_EXPERTS + 1; }, "r");
    expect_both([](Args& a) { a.k = 0; }, "k");
    expect_both([](Args& a) { a.k = 7; }, "k");
    expect_both([](Args& a) { a.rank_partition = 4; }, "rank_partition");
    expect_both([](Args& a) { a.rank_partition = -1; }, "rank_partition");
    expect_both([](Args& a) { a.x_stride = 6; }, "x_stride");
    expect_both([](Args& a) { a.router_input_stride = 6; }, "router_input_stride");
    expect_both([](Args& a) { a.A_stride = 6; }, "A_stride");
    expect_both([](Args& a) { a.B_stride = 5; }, "B_stride");
    expect_both([](Args& a) { a.W_r_stride = 6; }, "W_r_stride");
    expect_both([](Args& a) { a.y_stride = 5; }, "y_stride");
    expect_both([](Args& a) { a.dy_stride = 5; }, "dy_stride");
    expect_both([](Args& a) { a.dx_stride = 6; }, "dx_stride");
    expect_both([](Args& a) { a.drouter_input_stride = 6; }, "drouter_input_stride");
    expect_both([](Args& a) { a.dA_stride = 6; }, "dA_stride");
    expect_both([](Args& a) { a.dB_stride = 5; }, "dB_stride");
    expect_both([](Args& a) { a.dW_r_stride = 6; }, "dW_r_stride");
    expect_both([](Args& a) { a.x_dtype = 9; }, "x_dtype");
    expect_both([](Args& a) { a.weight_dtype = -1; }, "weight_dtype");
    expect_both([](Args& a) { a.router_dtype = 4; }, "router_dtype");
    expect_both([](Args& a) { a.y_dtype = 4; }, "y_dtype");
    expect_both([](Args& a) { a.grad_dtype = 4; }, "grad_dtype");
    expect_both([](Args& a) { a.b_layout = 2; }, "b_layout");
    expect_both([](Args& a) { a.gate = 5; }, "gate");
    expect_both([](Args& a) { a.score = 3; }, "score");
    expect_both([](Args& a) { a.bias_mode = 3; }, "bias_mode");
    expect_both([](Args& a) { a.normalize = -1; }, "normalize");
    expect_both([](Args& a) { a.scale = kNan; }, "scale");
    expect_both([](Args& a) { a.eps = -1; }, "eps");
    expect_both([](Args& a) { a.temperature = -1; }, "temperature");
    expect_both([](Args& a) { a.threshold = kNan; }, "threshold");
    expect_both([](Args& a) { a.dropout_p = 1; }, "dropout_p");
    expect_both([](Args& a) { a.reserved[7] = 1; }, "reserved");
}

TEST_F(RankLoraArguments, AnUnlistedDtypeCombination) {
    moek_rank_lora_args args = forward_args();
    args.weight_dtype = MOEK_DTYPE_F16;
    uint64_t bytes = 0;
    EXPECT_EQ(moek_rank_lora_forward_workspace(context_, &args, &bytes), MOEK_STATUS_CODE_INVALID_ARGUMENT);
}

TEST_F(RankLoraArguments, Pointers) {
    using Args = moek_rank_lora_args;
    expect_both([](Args& a) { a.x = nullptr; }, "x");
    expect_both([](Args& a) { a.A = nullptr; }, "A");
    expect_both([](Args& a) { a.B = nullptr; }, "B");
    expect_both([](Args& a) { a.W_r = nullptr; }, "W_r");
    expect_both([](Args& a) { a.bias = nullptr; }, "bias");
    expect_both([](Args& a) { a.ids = nullptr; }, "ids");
    expect_both([](Args& a) { a.gates = nullptr; }, "gates");
    expect_forward([](Args& a) { a.y = nullptr; }, "y");
    expect_backward([](Args& a) { a.u = nullptr; }, "u");
    expect_backward([](Args& a) { a.gate_logits = nullptr; }, "gate_logits");
    expect_backward([](Args& a) { a.dy = nullptr; }, "dy");
    expect_backward([](Args& a) { a.router_input = nullptr; }, "drouter_input");
}

TEST_F(RankLoraArguments, WhatAGateDoesNotHave) {
    using Args = moek_rank_lora_args;
    const auto to_caller = [](Args& a) {
        a.gate = MOEK_RANK_GATE_CALLER;
        a.bias_mode = MOEK_BIAS_MODE_NONE;
        a.bias = a.W_r = a.router_input = nullptr;
        a.gate_logits = a.dW_r = a.drouter_input = nullptr;
    };
    const void* const some = call_.W_r.data();
    void* const place = gradients_.dW_r.data();
    const auto with = [&](const Change& more) {
        return [=](Args& a) {
            to_caller(a);
            more(a);
        };
    };
    expect_both(with([=](Args& a) { a.W_r = some; }), "W_r");
    expect_both(with([=](Args& a) { a.router_input = some; }), "router_input");
    expect_both(with([=](Args& a) { a.bias = some; }), "bias");
    expect_both(with([=](Args& a) { a.gate_logits = place; }), "gate_logits");
    expect_both(with([](Args& a) { a.bias_mode = MOEK_BIAS_MODE_SELECTION; }), "bias_mode");
    expect_both(with([](Args& a) { a.rank_partition = 2; }), "rank_partition");
    expect_backward(with([=](Args& a) { a.dW_r = place; }), "dW_r");
    expect_both(with([](Args& a) {
                    a.gate = MOEK_RANK_GATE_ACTIVATION_SIGNED;
                    a.bias_mode = MOEK_BIAS_MODE_WEIGHT;
                }),
                "bias_mode");
    expect_both([](Args& a) { a.bias_mode = MOEK_BIAS_MODE_NONE; }, "bias");
}

TEST_F(RankLoraArguments, IdsOutOfRange) {
    using Args = moek_rank_lora_args;
    for (const int32_t id : {-1, 6}) {
        saved_.ids.data()[4] = id;
        expect_backward([](Args&) {}, "ids");
        EXPECT_NE(last_error().find("[1, 1]"), std::string::npos) << last_error();
        expect_forward(
            [](Args& a) {
                a.gate = MOEK_RANK_GATE_CALLER;
                a.bias_mode = MOEK_BIAS_MODE_NONE;
                a.bias = a.W_r = a.router_input = nullptr;
                a.gate_logits = nullptr;
            },
            "ids");
    }
}

TEST_F(RankLoraArguments, Overlaps) {
    for (const bool backward : {false, true}) {
        moek_rank_lora_args args = backward ? call_.backward_args(saved_, gradients_) : forward_args();
        (backward ? args.dA : args.y) = const_cast<void*>(args.A);
        GuardedBytes workspace(size_t{1} << 24);
        const auto op = backward ? moek_rank_lora_backward : moek_rank_lora_forward;
        EXPECT_EQ(op(context_, &args, workspace.data(), workspace.size(), nullptr), MOEK_STATUS_CODE_INVALID_ARGUMENT);
        EXPECT_NE(last_error().find("A"), std::string::npos) << last_error();
    }
}

TEST_F(RankLoraArguments, ContextWorkspaceAndStream) {
    const moek_rank_lora_args forward = forward_args();
    const moek_rank_lora_args backward = call_.backward_args(saved_, gradients_);
    uint64_t bytes = 0;
    ASSERT_EQ(moek_rank_lora_forward_workspace(context_, &forward, &bytes), MOEK_STATUS_CODE_OK);
    std::vector<unsigned char> workspace(bytes + 1000000);
    int stream = 0;
    MOEK_EXPECT_ERROR(moek_rank_lora_forward(nullptr, &forward, workspace.data(), bytes, nullptr),
                      MOEK_STATUS_CODE_INVALID_ARGUMENT, "context");
    MOEK_EXPECT_ERROR(moek_rank_lora_forward(context_, nullptr, workspace.data(), bytes, nullptr),
                      MOEK_STATUS_CODE_INVALID_ARGUMENT, "args");
    MOEK_EXPECT_ERROR(moek_rank_lora_forward(context_, &forward, nullptr, bytes, nullptr),
                      MOEK_STATUS_CODE_INVALID_ARGUMENT, "workspace");
    MOEK_EXPECT_ERROR(moek_rank_lora_forward(context_, &forward, workspace.data(), bytes - 1, nullptr),
                      MOEK_STATUS_CODE_WORKSPACE_TOO_SMALL, "workspace_bytes");
    if (!on_cuda()) {
        MOEK_EXPECT_ERROR(moek_rank_lora_forward(context_, &forward, workspace.data(), bytes, &stream),
                          MOEK_STATUS_CODE_INVALID_ARGUMENT, "stream");
    }
    MOEK_EXPECT_ERROR(moek_rank_lora_forward_workspace(context_, &forward, nullptr), MOEK_STATUS_CODE_INVALID_ARGUMENT,
                      "out_bytes");
    MOEK_EXPECT_ERROR(moek_rank_lora_backward_workspace(context_, &backward, nullptr),
                      MOEK_STATUS_CODE_INVALID_ARGUMENT, "out_bytes");
    ASSERT_EQ(moek_rank_lora_backward_workspace(context_, &backward, &bytes), MOEK_STATUS_CODE_OK);
    workspace.resize(bytes);
    MOEK_EXPECT_ERROR(moek_rank_lora_backward(nullptr, &backward, workspace.data(), bytes, nullptr),
                      MOEK_STATUS_CODE_INVALID_ARGUMENT, "context");
    MOEK_EXPECT_ERROR(moek_rank_lora_backward(context_, nullptr, workspace.data(), bytes, nullptr),
                      MOEK_STATUS_CODE_INVALID_ARGUMENT, "args");
    MOEK_EXPECT_ERROR(moek_rank_lora_backward(context_, &backward, nullptr, bytes, nullptr),
                      MOEK_STATUS_CODE_INVALID_ARGUMENT, "workspace");
    MOEK_EXPECT_ERROR(moek_rank_lora_backward(context_, &backward, workspace.data(), bytes - 1, nullptr),
                      MOEK_STATUS_CODE_WORKSPACE_TOO_SMALL, "workspace_bytes");
    if (!on_cuda()) {
        MOEK_EXPECT_ERROR(moek_rank_lora_backward(context_, &backward, workspace.data(), bytes, &stream),
                          MOEK_STATUS_CODE_INVALID_ARGUMENT, "stream");
    }

    moek_rank_lora_args huge = forward_args();
    huge.T = int64_t{1} << 60;
    MOEK_EXPECT_ERROR(moek_rank_lora_forward_workspace(context_, &huge, &bytes), MOEK_STATUS_CODE_INVALID_ARGUMENT,
                      "T: got");
    MOEK_EXPECT_ERROR(moek_rank_lora_backward_workspace(context_, &huge, &bytes), MOEK_STATUS_CODE_INVALID_ARGUMENT,
                      "T: got");
}

}  // namespace
}  // namespace moek::test
