// C entry points of the op `core_merge`: check the arguments, resolve the defaults, call the backend.
#include <limits>

#include "core/check.hpp"
#include "core/context.hpp"
#include "core/dtype.hpp"

namespace moek {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
// A core of a larger rank has more elements than an int64_t counts.
constexpr int64_t kLargestRank = 3'037'000'499;

int64_t router_columns(const moek_core_merge_args& args) {
    switch (args.router) {
        case MOEK_CORE_ROUTER_CORE:
            return args.r;
        case MOEK_CORE_ROUTER_INPUT:
            return args.d_in;
        default:
            return 0;
    }
}

bool rank_major(const moek_core_merge_args& args) {
    return args.b_layout == MOEK_B_LAYOUT_RANK_BY_OUT;
}
int64_t b_rows(const moek_core_merge_args& args) {
    return rank_major(args) ? args.r : args.d_out;
}
int64_t b_columns(const moek_core_merge_args& args) {
    return rank_major(args) ? args.d_out : args.r;
}

// Checks everything but the pointers and returns the resolved copy.
moek_core_merge_args resolve(const moek_context* context, const moek_core_merge_args* given) {
    check_not_null("context", context);
    moek_core_merge_args args = read_struct("args", given);
    check_call_flags(args.flags);
    check_range("T", args.T, 0, kMost);
    check_range("d_in", args.d_in, 1, kMost);
    check_range("d_out", args.d_out, 1, kMost);
    check_range("r", args.r, 1, kLargestRank);
    check_range("E", args.E, 1, MOEK_MAX_EXPERTS);
    check_dtypes({args.x_dtype, args.weight_dtype, args.router_dtype, args.y_dtype, args.grad_dtype});
    check_enum("b_layout", args.b_layout, 2, "moek_b_layout");
    check_enum("router", args.router, 3, "moek_core_router");
    check_zero("reserved0", args.reserved0);
    check_reserved(args.reserved);
    resolve_stride("x_stride", &args.x_stride, args.d_in);
    resolve_stride("router_input_stride", &args.router_input_stride, args.d_in);
    resolve_stride("A_stride", &args.A_stride, args.d_in);
    resolve_stride("B_stride", &args.B_stride, b_columns(args));
    resolve_stride("W_g_stride", &args.W_g_stride, router_columns(args));
    resolve_stride("y_stride", &args.y_stride, args.d_out);
    resolve_stride("dy_stride", &args.dy_stride, args.d_out);
    resolve_stride("dx_stride", &args.dx_stride, args.d_in);
    resolve_stride("drouter_input_stride", &args.drouter_input_stride, args.d_in);
    resolve_stride("dA_stride", &args.dA_stride, args.d_in);
    resolve_stride("dB_stride", &args.dB_stride, b_columns(args));
    resolve_stride("dW_g_stride", &args.dW_g_stride, router_columns(args));
    check_finite("scale", args.scale);
    resolve_temperature(&args.temperature);
    check_probability("dropout_p", args.dropout_p);
    check_probability("dropout_core_p", args.dropout_core_p);
    return args;
}

// The inputs of forward and backward but for p.
void add_common_inputs(const moek_core_merge_args& args, Tensors& tensors) {
    const size_t x = dtype_size(args.x_dtype);
    const size_t weight = dtype_size(args.weight_dtype);
    tensors.input("x", args.x, args.T, args.d_in, args.x_stride, x);
    tensors.input("A", args.A, args.r, args.d_in, args.A_stride, weight);
    tensors.input("B", args.B, b_rows(args), b_columns(args), args.B_stride, weight);
    tensors.input("C", args.C, args.E, args.r * args.r, args.r * args.r, weight);
    if (args.router == MOEK_CORE_ROUTER_CALLER) {
        check_null("W_g", args.W_g, "with MOEK_CORE_ROUTER_CALLER");
    } else {
        tensors.input("W_g", args.W_g, args.E, router_columns(args), args.W_g_stride, dtype_size(args.router_dtype));
    }
    if (args.router == MOEK_CORE_ROUTER_INPUT) {
        tensors.optional_input("router_input", args.router_input, args.T, args.d_in, args.router_input_stride, x);
    } else {
        check_null("router_input", args.router_input, "unless router is MOEK_CORE_ROUTER_INPUT");
    }
}

Tensors forward_tensors(const moek_core_merge_args& args) {
    const size_t accumulator = dtype_size(accumulator_dtype(args.x_dtype));
    Tensors tensors;
    add_common_inputs(args, tensors);
    if (args.router == MOEK_CORE_ROUTER_CALLER) {
        tensors.input("p", args.p, args.T, args.E, args.E, accumulator);
    } else {
        tensors.optional_output("p", args.p, args.T, args.E, args.E, accumulator);
    }
    tensors.output("y", args.y, args.T, args.d_out, args.y_stride, dtype_size(args.y_dtype));
    tensors.optional_output("u", args.u, args.T, args.r, args.r, accumulator);
    tensors.optional_output("v", args.v, args.T, args.r, args.r, accumulator);
    return tensors;
}

Tensors backward_tensors(const moek_core_merge_args& args) {
    const size_t x = dtype_size(args.x_dtype);
    const size_t grad = dtype_size(args.grad_dtype);
    const size_t accumulator = dtype_size(accumulator_dtype(args.x_dtype));
    Tensors tensors;
    add_common_inputs(args, tensors);
    tensors.input("u", args.u, args.T, args.r, args.r, accumulator);
    tensors.input("p", args.p, args.T, args.E, args.E, accumulator);
    tensors.input("v", args.v, args.T, args.r, args.r, accumulator);
    tensors.input("dy", args.dy, args.T, args.d_out, args.dy_stride, dtype_size(args.y_dtype));
    tensors.optional_output("dx", args.dx, args.T, args.d_in, args.dx_stride, x);
    if (args.router_input == nullptr) {
        check_null("drouter_input", args.drouter_input, "without router_input");
    } else {
        tensors.optional_output("drouter_input", args.drouter_input, args.T, args.d_in, args.drouter_input_stride, x);
    }
    tensors.optional_output("dA", args.dA, args.r, args.d_in, args.dA_stride, grad);
    tensors.optional_output("dB", args.dB, b_rows(args), b_columns(args), args.dB_stride, grad);
    tensors.optional_output("dC", args.dC, args.E, args.r * args.r, args.r * args.r, grad);
    if (args.router == MOEK_CORE_ROUTER_CALLER) {
        check_null("dW_g", args.dW_g, "with MOEK_CORE_ROUTER_CALLER");
    } else {
        tensors.optional_output("dW_g", args.dW_g, args.E, router_columns(args), args.dW_g_stride, grad);
    }
    tensors.optional_output("dp", args.dp, args.T, args.E, args.E, accumulator);
    return tensors;
}

}  // namespace
}  // namespace moek

moek_status moek_core_merge_forward_workspace(moek_context* context, const moek_core_merge_args* args,
                                              uint64_t* out_bytes) {
    return moek::guarded("moek_core_merge_forward_workspace", [&] {
        const moek_core_merge_args resolved = moek::resolve(context, args);
        moek::check_not_null("out_bytes", out_bytes);
        return moek::query_workspace(context->backend.core_merge_forward_workspace, *context, resolved, out_bytes);
    });
}

moek_status moek_core_merge_forward(moek_context* context, const moek_core_merge_args* args, void* workspace,
                                    uint64_t workspace_bytes, void* stream) {
    return moek::guarded("moek_core_merge_forward", [&] {
        const moek_core_merge_args resolved = moek::resolve(context, args);
        moek::Tensors tensors = moek::forward_tensors(resolved);
        return moek::run_op(context->backend.core_merge_forward_workspace, context->backend.core_merge_forward,
                            *context, resolved, tensors, workspace, workspace_bytes, stream);
    });
}

moek_status moek_core_merge_backward_workspace(moek_context* context, const moek_core_merge_args* args,
                                               uint64_t* out_bytes) {
    return moek::guarded("moek_core_merge_backward_workspace", [&] {
        const moek_core_merge_args resolved = moek::resolve(context, args);
        moek::check_not_null("out_bytes", out_bytes);
        return moek::query_workspace(context->backend.core_merge_backward_workspace, *context, resolved, out_bytes);
    });
}

moek_status moek_core_merge_backward(moek_context* context, const moek_core_merge_args* args, void* workspace,
                                     uint64_t workspace_bytes, void* stream) {
    return moek::guarded("moek_core_merge_backward", [&] {
        const moek_core_merge_args resolved = moek::resolve(context, args);
        moek::Tensors tensors = moek::backward_tensors(resolved);
        return moek::run_op(context->backend.core_merge_backward_workspace, context->backend.core_merge_backward,
                            *context, resolved, tensors, workspace, workspace_bytes, stream);
    });
}
