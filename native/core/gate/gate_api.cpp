// C entry points of the op `gate`: check the arguments, resolve the defaults, call the backend.
#include <limits>

#include "core/check.hpp"
#include "core/context.hpp"
#include "core/dtype.hpp"

namespace moek {
namespace {

// Checks everything but the pointers and returns the resolved copy.
moek_gate_args resolve(const moek_context* context, const moek_gate_args* given) {
    check_not_null("context", context);
    moek_gate_args args = read_struct("args", given);
    check_call_flags(args.flags);
    check_range("T", args.T, 0, std::numeric_limits<int64_t>::max());
    check_range("E", args.E, 1, MOEK_MAX_EXPERTS);
    check_enum("logits_dtype", args.logits_dtype, 4, "moek_dtype");
    check_enum("score", args.score, 3, "moek_gate_score");
    check_enum("select", args.select, 2, "moek_gate_select");
    check_enum("bias_mode", args.bias_mode, 3, "moek_bias_mode");
    check_enum("normalize", args.normalize, 3, "moek_gate_normalize");
    check_zero("reserved0", args.reserved0);
    check_reserved(args.reserved);
    if (args.select == MOEK_GATE_SELECT_ALL) {
        if (args.k == 0) args.k = args.E;
        if (args.k != args.E) {
            fail_argument("k", std::to_string(args.k),
                          "0 or E = " + std::to_string(args.E) + " with MOEK_GATE_SELECT_ALL");
        }
    }
    check_range("k", args.k, 1, args.E);
    resolve_stride("logits_stride", &args.logits_stride, args.E);
    resolve_stride("dlogits_stride", &args.dlogits_stride, args.E);
    check_not_negative("eps", args.eps);
    resolve_temperature(&args.temperature);
    if (args.weight_scale == 0) args.weight_scale = 1;
    check_finite("weight_scale", args.weight_scale);
    return args;
}

void add_common_inputs(const moek_gate_args& args, Tensors& tensors) {
    const size_t element = dtype_size(args.logits_dtype);
    const size_t accumulator = dtype_size(accumulator_dtype(args.logits_dtype));
    tensors.input("logits", args.logits, args.T, args.E, args.logits_stride, element);
    if (args.bias_mode == MOEK_BIAS_MODE_NONE) {
        check_null("bias", args.bias, "with MOEK_BIAS_MODE_NONE");
    } else {
        tensors.input("bias", args.bias, 1, args.E, args.E, accumulator);
    }
    if (args.select == MOEK_GATE_SELECT_ALL) {
        check_null("ids", args.ids, "with MOEK_GATE_SELECT_ALL");
        check_null("counts", args.counts, "with MOEK_GATE_SELECT_ALL");
    }
}

Tensors forward_tensors(const moek_gate_args& args) {
    const size_t accumulator = dtype_size(accumulator_dtype(args.logits_dtype));
    Tensors tensors;
    add_common_inputs(args, tensors);
    if (args.select == MOEK_GATE_SELECT_TOP_K) {
        tensors.output("ids", args.ids, args.T, args.k, args.k, sizeof(int32_t));
        tensors.optional_output("counts", args.counts, 1, args.E, args.E, sizeof(int32_t));
    }
    tensors.output("weights", args.weights, args.T, args.k, args.k, accumulator);
    tensors.optional_output("lse", args.lse, 1, args.T, args.T, accumulator);
    return tensors;
}

Tensors backward_tensors(const moek_gate_args& args) {
    const size_t accumulator = dtype_size(accumulator_dtype(args.logits_dtype));
    Tensors tensors;
    add_common_inputs(args, tensors);
    if (args.select == MOEK_GATE_SELECT_TOP_K) {
        tensors.input("ids", args.ids, args.T, args.k, args.k, sizeof(int32_t));
    }
    tensors.input("dweights", args.dweights, args.T, args.k, args.k, accumulator);
    tensors.optional_input("dlse", args.dlse, 1, args.T, args.T, accumulator);
    tensors.output("dlogits", args.dlogits, args.T, args.E, args.dlogits_stride, dtype_size(args.logits_dtype));
    return tensors;
}

moek_gate_bias_update_args resolve(const moek_context* context, const moek_gate_bias_update_args* given) {
    check_not_null("context", context);
    const moek_gate_bias_update_args args = read_struct("args", given);
    check_zero("flags", args.flags);
    check_range("E", args.E, 1, MOEK_MAX_EXPERTS);
    check_enum_among("bias_dtype", args.bias_dtype, {MOEK_DTYPE_F32, MOEK_DTYPE_F64},
                     "MOEK_DTYPE_F32 (0) or MOEK_DTYPE_F64 (3)");
    check_enum("target_mode", args.target_mode, 2, "moek_bias_target");
    check_finite("rate", args.rate);
    check_finite("target", args.target);
    check_reserved(args.reserved);
    Tensors tensors;
    tensors.input("counts", args.counts, 1, args.E, args.E, sizeof(int32_t));
    tensors.output("bias", args.bias, 1, args.E, args.E, dtype_size(args.bias_dtype));
    tensors.check_overlaps();
    return args;
}

}  // namespace
}  // namespace moek

moek_status moek_gate_forward_workspace(moek_context* context, const moek_gate_args* args, uint64_t* out_bytes) {
    return moek::guarded("moek_gate_forward_workspace", [&] {
        const moek_gate_args resolved = moek::resolve(context, args);
        moek::check_not_null("out_bytes", out_bytes);
        return moek::query_workspace(context->backend.gate_forward_workspace, *context, resolved, out_bytes);
    });
}

moek_status moek_gate_forward(moek_context* context, const moek_gate_args* args, void* workspace,
                              uint64_t workspace_bytes, void* stream) {
    return moek::guarded("moek_gate_forward", [&] {
        const moek_gate_args resolved = moek::resolve(context, args);
        moek::Tensors tensors = moek::forward_tensors(resolved);
        return moek::run_op(context->backend.gate_forward_workspace, context->backend.gate_forward, *context, resolved,
                            tensors, workspace, workspace_bytes, stream);
    });
}

moek_status moek_gate_backward_workspace(moek_context* context, const moek_gate_args* args, uint64_t* out_bytes) {
    return moek::guarded("moek_gate_backward_workspace", [&] {
        const moek_gate_args resolved = moek::resolve(context, args);
        moek::check_not_null("out_bytes", out_bytes);
        return moek::query_workspace(context->backend.gate_backward_workspace, *context, resolved, out_bytes);
    });
}

moek_status moek_gate_backward(moek_context* context, const moek_gate_args* args, void* workspace,
                               uint64_t workspace_bytes, void* stream) {
    return moek::guarded("moek_gate_backward", [&] {
        const moek_gate_args resolved = moek::resolve(context, args);
        moek::Tensors tensors = moek::backward_tensors(resolved);
        return moek::run_op(context->backend.gate_backward_workspace, context->backend.gate_backward, *context,
                            resolved, tensors, workspace, workspace_bytes, stream);
    });
}

moek_status moek_gate_bias_update(moek_context* context, const moek_gate_bias_update_args* args, void* stream) {
    return moek::guarded("moek_gate_bias_update", [&] {
        const moek_gate_bias_update_args resolved = moek::resolve(context, args);
        moek::check_stream(*context, stream);
        return moek::offered(context->backend.gate_bias_update)(context->state, &resolved, stream);
    });
}
