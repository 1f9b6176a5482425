#include "cpu/rank_lora/rank_lora_common.hpp"

#include <algorithm>
#include <string>

#include "core/dtype.hpp"
#include "core/error.hpp"

namespace moek::cpu {
namespace {

RowMatrix b_of(const moek_rank_lora_args& args) {
    return {args.B, args.r, args.B_stride, args.b_layout == MOEK_B_LAYOUT_OUT_BY_RANK};
}

}  // namespace

void* WorkspaceCarver::take_bytes(int64_t rows, int64_t columns, size_t element) {
    constexpr uint64_t kAlignment = 64;
    constexpr uint64_t kMost = uint64_t{1} << 62;
    const auto count = static_cast<uint64_t>(rows);
    const uint64_t row = static_cast<uint64_t>(columns) * element;
    if (count == 0 || row == 0) return nullptr;
    if (row > kMost || count > (kMost - bytes_) / row) {
        throw Error(MOEK_STATUS_CODE_INVALID_ARGUMENT, "T: got a call whose workspace cannot be addressed");
    }
    // The first part pays for the workspace's own misalignment.
    if (bytes_ == 0)
        bytes_ = base_ == nullptr ? kAlignment : (kAlignment - reinterpret_cast<uintptr_t>(base_) % kAlignment);
    void* const part = base_ == nullptr ? nullptr : base_ + bytes_;
    bytes_ += (count * row + kAlignment - 1) / kAlignment * kAlignment;
    return part;
}

RankLora::RankLora(Context& given_context, const moek_rank_lora_args& given)
    : context(given_context),
      args(given),
      plan(plan_rank_lora(given)),
      f64(given.x_dtype == MOEK_DTYPE_F64),
      routed(given.gate == MOEK_RANK_GATE_ROUTER),
      router_rows(routed ? given.r / given.rank_partition : 0),
      dropout{given.dropout_p, given.dropout_seed, given.dropout_offset, MOEK_DROPOUT_STREAM_INPUT},
      rows_a{given.A, given.r, given.A_stride, false},
      rows_b(b_of(given)),
      rows_w{given.W_r, router_rows, given.W_r_stride, false} {}

int64_t RankLora::slot_bytes() const {
    // The widest sparse product stacks A and W_r and has two entries per selected rank.
    return std::max(gemm_scratch_bytes(context, f64),
                    sparse_scratch_bytes(context, f64, args.r + router_rows, 2 * args.k));
}

void* RankLora::take_slots(WorkspaceCarver& carver) const {
    return carver.take_bytes(1, static_cast<int64_t>(ScratchSlots::bytes(context.pool.thread_count(), slot_bytes())),
                             1);
}

void RankLora::check_ids() const {
    const int32_t* const ids = static_cast<const int32_t*>(args.ids);
    for_tokens(context, args.T, args.k, [&](int64_t first, int64_t last) {
        for (int64_t i = first * args.k; i < last * args.k; ++i) {
            if (ids[i] >= 0 && ids[i] < args.r) continue;
            fail_argument(
                "ids",
                std::to_string(ids[i]) + " at [" + std::to_string(i / args.k) + ", " + std::to_string(i % args.k) + "]",
                "0.." + std::to_string(args.r - 1));
        }
    });
}

}  // namespace moek::cpu
