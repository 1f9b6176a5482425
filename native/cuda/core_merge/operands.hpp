// What forward and backward of core_merge share: the call's types and its tensors as operands of products.
#pragma once

#include <cstdint>
#include <string>

#include "core/core_merge/cuda_plan.hpp"
#include "cuda/common/device.hpp"
#include "cuda/gemm/operands.hpp"
#include "cuda/gemm/shrink.hpp"
#include "moekernels.h"

namespace moek::cuda {

struct CoreMergeOperands {
    explicit CoreMergeOperands(const moek_core_merge_args& given)
        : args(given),
          operand_bytes(given.x_dtype == MOEK_DTYPE_F32 ? 4 : 2),
          input_dropout(
              make_dropout(given.dropout_p, given.dropout_seed, given.dropout_offset, MOEK_DROPOUT_STREAM_INPUT)),
          core_dropout(
              make_dropout(given.dropout_core_p, given.dropout_seed, given.dropout_offset, MOEK_DROPOUT_STREAM_CORE)) {
        require_not_f64(args.x_dtype);
        require_not_strict(args.flags);
        require_tokens(args.T);
        require_width("d_in", args.d_in);
        require_width("d_out", args.d_out);
        require_width("r", args.r);
        constexpr int64_t kMostWeightedRanks = int64_t{1} << 30;
        if (args.r > kMostWeightedRanks / args.E) {
            fail_unsupported("E * r: got " + std::to_string(args.E) + " * " + std::to_string(args.r) +
                             ", a GPU takes up to " + std::to_string(kMostWeightedRanks));
        }
        types.token_dtype = args.x_dtype;
        types.weight_dtype = args.weight_dtype;
        types.tf32 = (args.flags & MOEK_CALL_FLAG_ALLOW_TF32) != 0;
        plan = plan_cuda_cores(args.r, args.E, operand_bytes);
        pitch = operand_pitch(args.r);
    }

    bool has_flag(uint32_t flag) const { return (args.flags & flag) != 0; }
    bool from_core() const { return args.router == MOEK_CORE_ROUTER_CORE; }
    bool from_input() const { return args.router == MOEK_CORE_ROUTER_INPUT; }
    // The INPUT router reads the very x that A reads.
    bool stacked() const { return from_input() && args.router_input == nullptr && !input_dropout.active(); }

    // Bytes of a [T, columns] matrix of the operands' type.
    uint64_t rows_bytes(int64_t columns) const {
        return static_cast<uint64_t>(args.T) * static_cast<uint64_t>(columns) * static_cast<uint64_t>(operand_bytes);
    }
    uint64_t count(int64_t columns) const { return static_cast<uint64_t>(args.T) * static_cast<uint64_t>(columns); }

    // x as A reads it, and what the INPUT router reads.
    TokenOperand x() const { return {args.x, args.x_stride, static_cast<int32_t>(args.d_in), nullptr, input_dropout}; }
    TokenOperand router_input() const {
        const bool own = args.router_input != nullptr;
        return {own ? args.router_input : args.x,
                own ? args.router_input_stride : args.x_stride,
                static_cast<int32_t>(args.d_in),
                nullptr,
                {}};
    }
    TokenOperand dy() const { return {args.dy, args.dy_stride, static_cast<int32_t>(args.d_out), nullptr, {}}; }

    // A and the INPUT router's W_g by rows; below each other, the second from line `second` on.
    WeightOperand a(WeightOrder order) const { return one_weight(args.A, args.A_stride, args.r, args.d_in, order); }
    WeightOperand w_g(WeightOrder order) const {
        return one_weight(args.W_g, args.W_g_stride, args.E, args.d_in, order);
    }
    WeightOperand a_and_w_g(WeightOrder order, int64_t second) const {
        WeightOperand weights = a(order);
        weights.data[1] = args.W_g;
        weights.stride[1] = args.W_g_stride;
        weights.lines[1] = static_cast<int32_t>(args.E);
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

    ShrinkCut cut() const {
        ShrinkCut cut;
        cut.batch_invariant = has_flag(MOEK_CALL_FLAG_BATCH_INVARIANT);
        cut.most_splits = cuda_core_merge_splits(args.T);
        return cut;
    }

    const moek_core_merge_args& args;
    const int operand_bytes;  // of an element of x, and so of every operand
    const Dropout input_dropout;
    const Dropout core_dropout;
    OperandTypes types;
    CudaCorePlan plan;
    int64_t pitch;  // of operands [T, r] in the workspace
};

}  // namespace moek::cuda
