// One call of core_merge with all its tensors, and the reference of the very same numbers.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "cpu/core_merge/reference.hpp"
#include "moekernels.h"
#include "tests/support/context.hpp"
#include "tests/support/random.hpp"
#include "tests/support/tensor.hpp"

namespace moek::test {

// The columns of the header's table of legal dtypes.
struct Dtypes {
    int32_t x = finest_dtype();       // and y
    int32_t weight = finest_dtype();  // and router and grad
};

inline const std::vector<Dtypes>& all_dtypes() {
    static const std::vector<Dtypes> list = {{MOEK_DTYPE_F32, MOEK_DTYPE_F32},  {MOEK_DTYPE_BF16, MOEK_DTYPE_BF16},
                                             {MOEK_DTYPE_F16, MOEK_DTYPE_F16},  {finest_dtype(), finest_dtype()},
                                             {MOEK_DTYPE_BF16, MOEK_DTYPE_F32}, {MOEK_DTYPE_F16, MOEK_DTYPE_F32}};
    return list;
}

struct CoreMergeCase {
    int64_t T = 5;
    int64_t d_in = 7;
    int64_t d_out = 6;
    int64_t r = 3;
    int64_t E = 4;
    int32_t router = MOEK_CORE_ROUTER_CORE;
    bool separate_input = false;
    Dtypes dtypes = {};
    int32_t b_layout = MOEK_B_LAYOUT_OUT_BY_RANK;
    uint32_t flags = 0;
    int64_t padding = 0;  // elements between rows
    double dropout_p = 0;
    double dropout_core_p = 0;
    double scale = 1.25;
    double temperature = 0.8;
};

inline void PrintTo(const CoreMergeCase& c, std::ostream* out) {
    *out << "T " << c.T << " d_in " << c.d_in << " d_out " << c.d_out << " r " << c.r << " E " << c.E << " router "
         << c.router << " separate_input " << c.separate_input << " x_dtype " << c.dtypes.x << " weight_dtype "
         << c.dtypes.weight << " b_layout " << c.b_layout << " flags " << c.flags << " padding " << c.padding
         << " dropout_p " << c.dropout_p << " dropout_core_p " << c.dropout_core_p;
}

inline std::vector<double> transposed(const std::vector<double>& values, int64_t rows, int64_t columns) {
    std::vector<double> result;
    for (int64_t c = 0; c < columns; ++c) {
        for (int64_t r = 0; r < rows; ++r) result.push_back(values[static_cast<size_t>(r * columns + c)]);
    }
    return result;
}

struct CoreMergeTensors {
    Tensor x, router_input, A, B, C, W_g, y, u, p, v, dy;
    Tensor dx, drouter_input, dA, dB, dC, dW_g, dp;
};

struct CoreMergeCall : CoreMergeTensors {
    static constexpr Tensor CoreMergeTensors::*kTensors[] = {&CoreMergeTensors::x,
                                                             &CoreMergeTensors::router_input,
                                                             &CoreMergeTensors::A,
                                                             &CoreMergeTensors::B,
                                                             &CoreMergeTensors::C,
                                                             &CoreMergeTensors::W_g,
                                                             &CoreMergeTensors::y,
                                                             &CoreMergeTensors::u,
                                                             &CoreMergeTensors::p,
                                                             &CoreMergeTensors::v,
                                                             &CoreMergeTensors::dy,
                                                             &CoreMergeTensors::dx,
                                                             &CoreMergeTensors::drouter_input,
                                                             &CoreMergeTensors::dA,
                                                             &CoreMergeTensors::dB,
                                                             &CoreMergeTensors::dC,
                                                             &CoreMergeTensors::dW_g,
                                                             &CoreMergeTensors::dp};

    CoreMergeCase shape;
    moek_core_merge_args args = {};

    CoreMergeCall(const CoreMergeCase& c, Random& random) : shape(c) {
        const int32_t accumulator = accumulator_dtype(c.dtypes.x);
        const bool rank_major = c.b_layout == MOEK_B_LAYOUT_RANK_BY_OUT;
        const auto filled = [&](int32_t dtype, int64_t rows, int64_t columns, double deviation, int64_t padding) {
            return Tensor(dtype, rows, columns, random.normals(rows * columns, deviation), columns + padding);
        };
        const auto poisoned = [](const Tensor& like) {
            return Tensor(like.dtype(), like.rows(), like.columns(), like.stride());
        };
        const double width = std::sqrt(static_cast<double>(c.d_in));
        x = filled(c.dtypes.x, c.T, c.d_in, 1, c.padding);
        A = filled(c.dtypes.weight, c.r, c.d_in, 1 / width, c.padding + 1);
        B = rank_major ? filled(c.dtypes.weight, c.r, c.d_out, 1, c.padding + 2)
                       : filled(c.dtypes.weight, c.d_out, c.r, 1, c.padding + 2);
        C = filled(c.dtypes.weight, c.E, c.r * c.r, 1 / std::sqrt(static_cast<double>(c.r)), 0);
        y = Tensor(c.dtypes.x, c.T, c.d_out, c.d_out + c.padding);
        u = Tensor(accumulator, c.T, c.r);
        p = Tensor(accumulator, c.T, c.E);
        v = Tensor(accumulator, c.T, c.r);
        dy = filled(c.dtypes.x, c.T, c.d_out, 1, c.padding);
        dx = poisoned(x);
        dA = poisoned(A);
        dB = poisoned(B);
        dC = poisoned(C);
        dp = poisoned(p);
        if (c.router == MOEK_CORE_ROUTER_CALLER) {
            p.assign(random.normals(c.T * c.E));
        } else {
            const bool core = c.router == MOEK_CORE_ROUTER_CORE;
            W_g = filled(c.dtypes.weight, c.E, core ? c.r : c.d_in, core ? 1 : 1 / width, c.padding);
            dW_g = poisoned(W_g);
        }
        if (c.separate_input) {
            router_input = filled(c.dtypes.x, c.T, c.d_in, 1, c.padding + 3);
            drouter_input = poisoned(router_input);
        }
        if ((c.flags & MOEK_CALL_FLAG_ACCUMULATE_OUTPUT) != 0) {
            for (Tensor* t : {&y, &dx, &drouter_input}) t->assign(random.normals(t->rows() * t->columns()));
        }
        if ((c.flags & MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS) != 0) {
            for (Tensor* t : {&dA, &dB, &dC, &dW_g}) t->assign(random.normals(t->rows() * t->columns()));
        }
        bind();
    }
    CoreMergeCall(const CoreMergeCall& other) : CoreMergeTensors(other), shape(other.shape) { bind(); }
    CoreMergeCall& operator=(const CoreMergeCall&) = delete;

    // A tensor's address, or null for one this call does not have.
    static void* address(Tensor& tensor) { return tensor.columns() == 0 ? nullptr : tensor.data(); }

    // Lets args point at the tensors.
    void bind() {
        args = {};
        args.struct_size = sizeof(args);
        args.flags = shape.flags;
        args.T = shape.T;
        args.d_in = shape.d_in;
        args.d_out = shape.d_out;
        args.r = shape.r;
        args.E = shape.E;
        args.x_dtype = args.y_dtype = shape.dtypes.x;
        args.weight_dtype = args.router_dtype = args.grad_dtype = shape.dtypes.weight;
        args.b_layout = shape.b_layout;
        args.router = shape.router;
        args.scale = shape.scale;
        args.temperature = shape.temperature;
        args.dropout_p = shape.dropout_p;
        args.dropout_core_p = shape.dropout_core_p;
        args.dropout_seed = 0x123456789ABCDEFull;
        args.dropout_offset = 77;
        args.x_stride = x.stride();
        args.router_input_stride = router_input.stride();
        args.A_stride = A.stride();
        args.B_stride = B.stride();
        args.W_g_stride = W_g.stride();
        args.y_stride = y.stride();
        args.dy_stride = dy.stride();
        args.dx_stride = dx.stride();
        args.drouter_input_stride = drouter_input.stride();
        args.dA_stride = dA.stride();
        args.dB_stride = dB.stride();
        args.dW_g_stride = dW_g.stride();
        args.x = address(x);
        args.router_input = address(router_input);
        args.A = address(A);
        args.B = address(B);
        args.C = address(C);
        args.W_g = address(W_g);
        args.y = address(y);
        args.u = address(u);
        args.p = address(p);
        args.v = address(v);
        args.dy = address(dy);
        args.dx = address(dx);
        args.drouter_input = address(drouter_input);
        args.dA = address(dA);
        args.dB = address(dB);
        args.dC = address(dC);
        args.dW_g = address(dW_g);
        args.dp = address(dp);
    }

    moek_status forward(moek_context* context) const {
        return run(moek_core_merge_forward_workspace, moek_core_merge_forward, context, args);
    }
    moek_status backward(moek_context* context) const {
        return run(moek_core_merge_backward_workspace, moek_core_merge_backward, context, args);
    }
    void expect_both(moek_context* context) const {
        ASSERT_EQ(forward(context), MOEK_STATUS_CODE_OK) << last_error();
        ASSERT_EQ(backward(context), MOEK_STATUS_CODE_OK) << last_error();
    }

    // The factors that the library uses, from its own function.
    std::vector<double> mask(moek_context* context, double probability, int64_t d, int32_t stream) const {
        if (probability == 0) return {};
        Tensor mask(finest_dtype(), shape.T, d);
        moek_dropout_args dropout = {};
        dropout.struct_size = sizeof(dropout);
        dropout.T = shape.T;
        dropout.d = d;
        dropout.p = probability;
        dropout.seed = args.dropout_seed;
        dropout.offset = args.dropout_offset;
        dropout.stream = stream;
        dropout.mask_dtype = finest_dtype();
        dropout.mask = mask.data();
        EXPECT_EQ(moek_dropout_mask(context, &dropout, nullptr), MOEK_STATUS_CODE_OK) << last_error();
        wait_for_device();
        return mask.values();
    }

    // The same call for the reference, made of the values after rounding to their dtypes.
    reference::CoreMerge reference_call(moek_context* context) const {
        const bool rank_major = shape.b_layout == MOEK_B_LAYOUT_RANK_BY_OUT;
        reference::CoreMerge call;
        call.T = shape.T;
        call.d_in = shape.d_in;
        call.d_out = shape.d_out;
        call.r = shape.r;
        call.E = shape.E;
        call.router = static_cast<moek_core_router>(shape.router);
        call.scale = shape.scale;
        call.temperature = shape.temperature;
        call.x = x.values();
        call.router_input = router_input.values();
        const std::vector<double> b = as_operand(B, shape.dtypes.x);
        call.A = as_operand(A, shape.dtypes.x);
        call.B = rank_major ? transposed(b, shape.r, shape.d_out) : b;
        call.C = as_operand(C, shape.dtypes.x);
        call.W_g = as_operand(W_g, shape.dtypes.x);
        if (shape.router == MOEK_CORE_ROUTER_CALLER) call.p = p.values();
        call.dropout_mask = mask(context, shape.dropout_p, shape.d_in, MOEK_DROPOUT_STREAM_INPUT);
        call.dropout_core_mask = mask(context, shape.dropout_core_p, shape.r, MOEK_DROPOUT_STREAM_CORE);
        return call;
    }
};

}  // namespace moek::test
