// What forward and backward of rank_lora share: the workspace, the views of the operands, and small loops over tokens.
#pragma once

#include <cstdint>

#include "core/check.hpp"
#include "core/rank_lora/plan.hpp"
#include "cpu/common/gemm.hpp"
#include "cpu/rank_lora/sparse.hpp"
#include "moekernels.h"

namespace moek::cpu {

// Hands out the parts of a workspace; without one it only adds up their sizes.
class WorkspaceCarver {
  public:
    explicit WorkspaceCarver(void* workspace) : base_(static_cast<unsigned char*>(workspace)) {}

    // Aligned to a cache line. Null without a workspace, and for nothing.
    template <class Element>
    Element* take(int64_t rows, int64_t columns) {
        return static_cast<Element*>(take_bytes(rows, columns, sizeof(Element)));
    }
    void* take_bytes(int64_t rows, int64_t columns, size_t element);
    uint64_t bytes() const { return bytes_; }

  private:
    unsigned char* base_;
    uint64_t bytes_ = 0;
};

// The checked call with its plan and views.
struct RankLora {
    RankLora(Context& given_context, const moek_rank_lora_args& given);

    Context& context;
    const moek_rank_lora_args& args;
    const RankLoraPlan plan;
    const bool f64;
    const bool routed;
    const int64_t router_rows;  // of W_r; 0 without a router
    const Dropout dropout;
    const RowMatrix rows_a, rows_b, rows_w;  // A, B by rank, W_r

    int64_t slot_bytes() const;
    // Scratch memory of the parallel loops, carved like everything else.
    void* take_slots(WorkspaceCarver& carver) const;

    TokenRows x_rows() const { return {args.x, args.x_dtype, args.x_stride, dropout}; }
    TokenRows router_rows_in() const {
        return args.router_input == nullptr
                   ? x_rows()
                   : TokenRows{args.router_input, args.x_dtype, args.router_input_stride, Dropout{}};
    }
    TokenRows dy_rows() const { return {args.dy, args.y_dtype, args.dy_stride, Dropout{}}; }

    // Throws unless 0 <= ids < r.
    void check_ids() const;
};

// body(first, last) over blocks of tokens.
template <class Body>
void for_tokens(Context& context, int64_t T, int64_t work_per_token, Body&& body) {
    constexpr int64_t kTokens = 64;
    const double work = static_cast<double>(T) * static_cast<double>(work_per_token);
    context.pool.parallel_for((T + kTokens - 1) / kTokens, work, [&](int64_t block) {
        const int64_t first = block * kTokens;
        body(first, T - first < kTokens ? T : first + kTokens);
    });
}

}  // namespace moek::cpu
