// C entry points of the op `rank_lora`: check the arguments, resolve the defaults, call the backend.
#include <limits>

#include "core/check.hpp"
#include "core/context.hpp"
#include "core/dtype.hpp"

namespace moek {
namespace {

bool is_activation(const moek_rank_lora_args& args) {
    return args.gate == MOEK_RANK_GATE_ACTIVATION_SIGNED || args.gate == MOEK_RANK_GATE_ACTIVATION_ABSOLUTE;
}

int64_t router_rows(const moek_rank_lora_args& args) {
    return args.r / args.rank_partition;
}

// Columns of gate_logits; 0 where the gate has none.
int64_t gate_logit_columns(const moek_rank_lora_args& args) {
    if (args.gate == MOEK_RANK_GATE_ROUTER) return router_rows(args);
    return args.gate == MOEK_RANK_GATE_ACTIVATION_SOFTMAX ? args.r : 0;
}

void resolve_rank_partition(moek_rank_lora_args& args) {
    if (args.rank_partition == 0) args.rank_partition = 1;
    if (args.gate != MOEK_RANK_GATE_ROUTER) {
        if (args.rank_partition != 1) {
            fail_argument("rank_partition", std::to_string(args.rank_partition),
                          "0 or 1 unless gate is MOEK_RANK_GATE_ROUTER");
        }
        return;
    }
    if (args.rank_partition < 1 || args.r % args.rank_partition != 0) {
        fail_argument("rank_partition", std::to_string(args.rank_partition),
                      "a divisor of r = " + std::to_string(args.r));
    }
}

void check_bias_mode(const moek_rank_lora_args& args) {
    check_enum("bias_mode", args.bias_mode, 3, "moek_bias_mode");
    if (args.gate == MOEK_RANK_GATE_CALLER) {
        check_enum_among("bias_mode", args.bias_mode, {MOEK_BIAS_MODE_NONE},
                         "MOEK_BIAS_MODE_NONE (0) with MOEK_RANK_GATE_CALLER");
    } else if (is_activation(args)) {
        check_enum_among("bias_mode", args.bias_mode, {MOEK_BIAS_MODE_NONE, MOEK_BIAS_MODE_SELECTION},
                         "MOEK_BIAS_MODE_NONE (0) or _SELECTION (1) with this gate");
    }
}

// Checks everything but the pointers and returns the resolved copy.
moek_rank_lora_args resolve(const moek_context* context, const moek_rank_lora_args* given) {
    check_not_null("context", context);
    moek_rank_lora_args args = read_struct("args", given);
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
    check_call_flags(args.flags);
    check_range("T", args.T, 0, kMost);
    check_range("d_in", args.d_in, 1, kMost);
    check_range("d_out", args.d_out, 1, kMost);
    check_range("r", args.r, 1, MOEK_MAX_EXPERTS);
    check_range("k", args.k, 1, args.r);
    check_enum("gate", args.gate, 5, "moek_rank_gate");
    check_enum("score", args.score, 3, "moek_gate_score");
    check_enum("normalize", args.normalize, 3, "moek_gate_normalize");
    check_enum("b_layout", args.b_layout, 2, "moek_b_layout");
    check_bias_mode(args);
    resolve_rank_partition(args);
    check_dtypes({args.x_dtype, args.weight_dtype, args.router_dtype, args.y_dtype, args.grad_dtype});
    const int64_t b_columns = args.b_layout == MOEK_B_LAYOUT_OUT_BY_RANK ? args.r : args.d_out;
    resolve_stride("x_stride", &args.x_stride, args.d_in);
    resolve_stride("router_input_stride", &args.router_input_stride, args.d_in);
    resolve_stride("A_stride", &args.A_stride, args.d_in);
    resolve_stride("B_stride", &args.B_stride, b_columns);
    resolve_stride("W_r_stride", &args.W_r_stride, args.d_in);
    resolve_stride("y_stride", &args.y_stride, args.d_out);
    resolve_stride("dy_stride", &args.dy_stride, args.d_out);
    resolve_stride("dx_stride", &args.dx_stride, args.d_in);
    resolve_stride("drouter_input_stride", &args.drouter_input_stride, args.d_in);
    resolve_stride("dA_stride", &args.dA_stride, args.d_in);
    resolve_stride("dB_stride", &args.dB_stride, b_columns);
    resolve_stride("dW_r_stride", &args.dW_r_stride, args.d_in);
    check_finite("scale", args.scale);
    check_not_negative("eps", args.eps);
    resolve_temperature(&args.temperature);
    check_not_negative("threshold", args.threshold);
    check_probability("dropout_p", args.dropout_p);
    check_reserved(args.reserved);
    return args;
}

// What both directions read.
void add_common_inputs(const moek_rank_lora_args& args, Tensors& tensors) {
    const size_t x = dtype_size(args.x_dtype);
    const size_t weight = dtype_size(args.weight_dtype);
    const bool out_by_rank = args.b_layout == MOEK_B_LAYOUT_OUT_BY_RANK;
    tensors.input("x", args.x, args.T, args.d_in, args.x_stride, x);
    tensors.input("A", args.A, args.r, args.d_in, args.A_stride, weight);
    tensors.input("B", args.B, out_by_rank ? args.d_out : args.r, out_by_rank ? args.r : args.d_out, args.B_stride,
                  weight);
    if (args.gate == MOEK_RANK_GATE_ROUTER) {
        tensors.input("W_r", args.W_r, router_rows(args), args.d_in, args.W_r_stride, dtype_size(args.router_dtype));
        tensors.optional_input("router_input", args.router_input, args.T, args.d_in, args.router_input_stride, x);
    } else {
        check_null("W_r", args.W_r, "unless gate is MOEK_RANK_GATE_ROUTER");
        check_null("router_input", args.router_input, "unless gate is MOEK_RANK_GATE_ROUTER");
    }
    if (args.bias_mode == MOEK_BIAS_MODE_NONE) {
        check_null("bias", args.bias, "with MOEK_BIAS_MODE_NONE");
    } else {
        tensors.input("bias", args.bias, 1, args.r, args.r, dtype_size(accumulator_dtype(args.x_dtype)));
    }
    if (gate_logit_columns(args) == 0) check_null("gate_logits", args.gate_logits, "with this gate");
}

Tensors forward_tensors(const moek_rank_lora_args& args) {
    const size_t accumulator = dtype_size(accumulator_dtype(args.x_dtype));
    const int64_t logits = gate_logit_columns(args);
    Tensors tensors;
    add_common_inputs(args, tensors);
    tensors.output("y", args.y, args.T, args.d_out, args.y_stride, dtype_size(args.y_dtype));
    if (args.gate == MOEK_RANK_GATE_CALLER) {
        tensors.input("ids", args.ids, args.T, args.k, args.k, sizeof(int32_t));
        tensors.input("gates", args.gates, args.T, args.k, args.k, accumulator);
    } else {
        tensors.output("ids", args.ids, args.T, args.k, args.k, sizeof(int32_t));
        tensors.output("gates", args.gates, args.T, args.k, args.k, accumulator);
    }
    tensors.optional_output("u", args.u, args.T, args.k, args.k, accumulator);
    if (logits != 0) tensors.optional_output("gate_logits", args.gate_logits, args.T, logits, logits, accumulator);
    tensors.optional_output("counts", args.counts, 1, args.r, args.r, sizeof(int32_t));
    return tensors;
}

Tensors backward_tensors(const moek_rank_lora_args& args) {
    const size_t accumulator = dtype_size(accumulator_dtype(args.x_dtype));
    const size_t x = dtype_size(args.x_dtype);
    const size_t grad = dtype_size(args.grad_dtype);
    const bool out_by_rank = args.b_layout == MOEK_B_LAYOUT_OUT_BY_RANK;
    const int64_t logits = gate_logit_columns(args);
    Tensors tensors;
    add_common_inputs(args, tensors);
    tensors.input("ids", args.ids, args.T, args.k, args.k, sizeof(int32_t));
    tensors.input("gates", args.gates, args.T, args.k, args.k, accumulator);
    tensors.input("u", args.u, args.T, args.k, args.k, accumulator);
    if (logits != 0) tensors.input("gate_logits", args.gate_logits, args.T, logits, logits, accumulator);
    tensors.input("dy", args.dy, args.T, args.d_out, args.dy_stride, dtype_size(args.y_dtype));
    tensors.optional_output("dx", args.dx, args.T, args.d_in, args.dx_stride, x);
    if (args.router_input == nullptr) {
        check_null("drouter_input", args.drouter_input, "without router_input");
    } else {
        tensors.optional_output("drouter_input", args.drouter_input, args.T, args.d_in, args.drouter_input_stride, x);
    }
    tensors.optional_output("dA", args.dA, args.r, args.d_in, args.dA_stride, grad);
    tensors.optional_output("dB", args.dB, out_by_rank ? args.d_out : args.r, out_by_rank ? args.r : args.d_out,
                            args.dB_stride, grad);
    if (args.gate == MOEK_RANK_GATE_ROUTER) {
        tensors.optional_output("dW_r", args.dW_r, router_rows(args), args.d_in, args.dW_r_stride, grad);
    } else {
        check_null("dW_r", args.dW_r, "unless gate is MOEK_RANK_GATE_ROUTER");
    }
    tensors.optional_output("dgates", args.dgates, args.T, args.k, args.k, accumulator);
    return tensors;
}

}  // namespace
}  // namespace moek

moek_status moek_rank_lora_forward_workspace(moek_context* context, const moek_rank_lora_args* args,
                                             uint64_t* out_bytes) {
    return moek::guarded("moek_rank_lora_forward_workspace", [&] {
        const moek_rank_lora_args resolved = moek::resolve(context, args);
        moek::check_not_null("out_bytes", out_bytes);
        return moek::query_workspace(context->backend.rank_lora_forward_workspace, *context, resolved, out_bytes);
    });
}

moek_status moek_rank_lora_forward(moek_context* context, const moek_rank_lora_args* args, void* workspace,
                                   uint64_t workspace_bytes, void* stream) {
    return moek::guarded("moek_rank_lora_forward", [&] {
        const moek_rank_lora_args resolved = moek::resolve(context, args);
        moek::Tensors tensors = moek::forward_tensors(resolved);
        return moek::run_op(context->backend.rank_lora_forward_workspace, context->backend.rank_lora_forward, *context,
                            resolved, tensors, workspace, workspace_bytes, stream);
    });
}

moek_status moek_rank_lora_backward_workspace(moek_context* context, const moek_rank_lora_args* args,
                                              uint64_t* out_bytes) {
    return moek::guarded("moek_rank_lora_backward_workspace", [&] {
        const moek_rank_lora_args resolved = moek::resolve(context, args);
        moek::check_not_null("out_bytes", out_bytes);
        return moek::query_workspace(context->backend.rank_lora_backward_workspace, *context, resolved, out_bytes);
    });
}

moek_status moek_rank_lora_backward(moek_context* context, const moek_rank_lora_args* args, void* workspace,
                                    uint64_t workspace_bytes, void* stream) {
    return moek::guarded("moek_rank_lora_backward", [&] {
        const moek_rank_lora_args resolved = moek::resolve(context, args);
        moek::Tensors tensors = moek::backward_tensors(resolved);
        return moek::run_op(context->backend.rank_lora_backward_workspace, context->backend.rank_lora_backward,
                            *context, resolved, tensors, workspace, workspace_bytes, stream);
    });
}
