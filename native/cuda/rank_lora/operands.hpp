// What forward and backward of rank_lora share: the call's types and its tensors as operands of products.
#pragma once

#include <cstdint>

#include "cuda/common/device.hpp"
#include "cuda/gemm/operands.hpp"
#include "moekernels.h"

namespace moek::cuda {

struct RankLoraOperands {
    explicit RankLoraOperands(const moek_rank_lora_args& given)
        : args(given),
          routed(given.gate == MOEK_RANK_GATE_ROUTER),
          router_rows(routed ? given.r / given.rank_partition : 0),
          operand_bytes(given.x_dtype == MOEK_DTYPE_F32 ? 4 : 2),
          dropout(make_dropout(given.dropout_p, given.dropout_seed, given.dropout_offset, MOEK_DROPOUT_STREAM_INPUT)) {
        require_not_f64(args.x_dtype);
        require_not_strict(args.flags);
        require_tokens(args.T);
        require_width("d_in", args.d_in);
        require_width("d_out", args.d_out);
        types.token_dtype = args.x_dtype;
        types.weight_dtype = args.weight_dtype;
        types.tf32 = (args.flags & MOEK_CALL_FLAG_ALLOW_TF32) != 0;
    }

    bool has_flag(uint32_t flag) const { return (args.flags & flag) != 0; }

    TokenOperand x() const { return {args.x, args.x_stride, static_cast<int32_t>(args.d_in), nullptr, dropout}; }
    TokenOperand router_input() const {
        if (args.router_input == nullptr) return x();
        return {args.router_input, args.router_input_stride, static_cast<int32_t>(args.d_in), nullptr, {}};
    }
    TokenOperand dy() const { return {args.dy, args.dy_stride, static_cast<int32_t>(args.d_out), nullptr, {}}; }

    // A and W_r by rows; below each other, the second from line `second` on.
    WeightOperand a(WeightOrder order) const { return one_weight(args.A, args.A_stride, args.r, args.d_in, order); }
    WeightOperand w_r(WeightOrder order) const {
        return one_weight(args.W_r, args.W_r_stride, router_rows, args.d_in, order);
    }
    WeightOperand a_and_w_r(WeightOrder order, int64_t second) const {
        WeightOperand weights = a(order);
        weights.data[1] = args.W_r;
        weights.stride[1] = args.W_r_stride;
        weights.lines[1] = static_cast<int32_t>(router_rows);
        weights.second = static_cast<int32_t>(second);
        return weights;
    }

    // B for a product whose depth is the rank, or d_out.
    WeightOperand b(bool depth_is_rank) const {
        const bool rank_in_line = args.b_layout == MOEK_B_LAYOUT_OUT_BY_RANK;
        const WeightOrder order = rank_in_line == depth_is_rank ? WeightOrder::kDepthInLine : WeightOrder::kDepthByLine;
        return rank_in_line ? one_weight(args.B, args.B_stride, args.d_out, args.r, order)
                            : one_weight(args.B, args.B_stride, args.r, args.d_out, order);
    }

    const moek_rank_lora_args& args;
    const bool routed;
    const int64_t router_rows;  // of W_r; 0 without a router
    const int operand_bytes;    // of an element of x, and so of every operand
    const Dropout dropout;
    OperandTypes types;
};

}  // namespace moek::cuda
