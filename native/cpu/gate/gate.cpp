// Rows are independent, so a block of rows is a unit of work. Counts are the one sum over rows: every block counts into
// a histogram of its own in the workspace, and the histograms are added at the end.
#include "cpu/gate/gate.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

#include "core/check.hpp"
#include "cpu/common/workspace.hpp"
#include "cpu/gate/gate_rows.hpp"

namespace moek::cpu {
namespace {

// Fixed by the shape alone. At most kMostBlocks, so that histograms stay small beside the logits.
class RowBlocks {
  public:
    explicit RowBlocks(const moek_gate_args& args) : rows_(args.T) {
        constexpr int64_t kLeastLogits = 4096;
        constexpr int64_t kMostBlocks = 128;
        const int64_t least_rows = std::max<int64_t>(1, kLeastLogits / args.E);
        block_rows_ = std::max(least_rows, rows_ / kMostBlocks + (rows_ % kMostBlocks != 0 ? 1 : 0));
    }

    int64_t count() const { return rows_ / block_rows_ + (rows_ % block_rows_ != 0 ? 1 : 0); }
    int64_t first(int64_t block) const { return block * block_rows_; }
    int64_t last(int64_t block) const { return std::min(rows_ - first(block), block_rows_) + first(block); }

  private:
    int64_t rows_;
    int64_t block_rows_;
};

double row_work(const moek_gate_args& args) {
    // About ten operations for a score and a comparison.
    return 10.0 * static_cast<double>(args.T) * static_cast<double>(args.E);
}

// Up to 192 KiB: too much for the stacks that some callers' threads have, and nothing beside a block's own work.
using Scratch = std::unique_ptr<double[]>;
Scratch make_scratch(const moek_gate_args& args) {
    return std::make_unique_for_overwrite<double[]>(static_cast<size_t>(gate_rows_scratch(args.E)));
}

bool bias_has_nan(const moek_gate_args& args) {
    for (int64_t e = 0; e < args.E && args.bias != nullptr; ++e) {
        const double value = args.logits_dtype == MOEK_DTYPE_F64 ? static_cast<const double*>(args.bias)[e]
                                                                 : static_cast<const float*>(args.bias)[e];
        if (std::isnan(value)) return true;
    }
    return false;
}

void check_strict(Context& context, const moek_gate_args& args) {
    if ((args.flags & MOEK_CALL_FLAG_STRICT) == 0) return;
    if (bias_has_nan(args)) throw Error(MOEK_STATUS_CODE_NUMERIC, "bias: got a NaN in a strict call");
    const RowBlocks blocks(args);
    const auto nan_row = MOEK_SELECT_ISA(context.isa, gate_nan_row);
    std::atomic<int64_t> found{std::numeric_limits<int64_t>::max()};
    context.pool.parallel_for(blocks.count(), row_work(args) / 10, [&](int64_t block) {
        const int64_t row = nan_row(args, blocks.first(block), blocks.last(block));
        // The lowest row is reported, whatever thread finds it.
        int64_t lowest = found.load();
        while (row >= 0 && row < lowest && !found.compare_exchange_weak(lowest, row)) {
        }
    });
    if (found != std::numeric_limits<int64_t>::max()) {
        throw Error(MOEK_STATUS_CODE_NUMERIC,
                    "logits: got a NaN in row " + std::to_string(found) + " of a strict call");
    }
}

void check_ids(Context& context, const moek_gate_args& args) {
    if (args.select == MOEK_GATE_SELECT_ALL) return;
    const RowBlocks blocks(args);
    const int32_t* ids = static_cast<const int32_t*>(args.ids);
    context.pool.parallel_for(blocks.count(), static_cast<double>(args.T) * static_cast<double>(args.k),
                              [&](int64_t block) {
                                  const int64_t end = blocks.last(block) * args.k;
                                  for (int64_t i = blocks.first(block) * args.k; i < end; ++i) {
                                      if (ids[i] >= 0 && ids[i] < args.E) continue;
                                      fail_argument("ids",
                                                    std::to_string(ids[i]) + " at [" + std::to_string(i / args.k) +
                                                        ", " + std::to_string(i % args.k) + "]",
                                                    "0.." + std::to_string(args.E - 1));
                                  }
                              });
}

void add_histograms(const moek_gate_args& args, const int32_t* histograms, int64_t count) {
    // Unsigned, because an accumulating caller may let the counts wrap.
    uint32_t* counts = static_cast<uint32_t*>(args.counts);
    for (int64_t block = 0; block < count; ++block) {
        const int32_t* histogram = histograms + block * args.E;
        for (int64_t e = 0; e < args.E; ++e) counts[e] += static_cast<uint32_t>(histogram[e]);
    }
}

}  // namespace

moek_status gate_forward_workspace(void*, const moek_gate_args* args, uint64_t* out_bytes) {
    const bool counts_possible = args->select == MOEK_GATE_SELECT_TOP_K;
    const int64_t count = RowBlocks(*args).count();
    *out_bytes = counts_possible ? workspace_size<int32_t>(count * args->E) : 0;
    return MOEK_STATUS_CODE_OK;
}

moek_status gate_forward(void* state, const moek_gate_args* args, void* workspace, void*) {
    Context& context = context_of(state);
    check_strict(context, *args);
    const bool accumulate = (args->flags & MOEK_CALL_FLAG_ACCUMULATE_COUNTS) != 0;
    const size_t histogram_bytes = static_cast<size_t>(args->E) * sizeof(int32_t);
    if (args->counts != nullptr && !accumulate) std::memset(args->counts, 0, histogram_bytes);

    const RowBlocks blocks(*args);
    int32_t* histograms = args->counts == nullptr ? nullptr : align_workspace<int32_t>(workspace);
    const auto forward_rows = MOEK_SELECT_ISA(context.isa, gate_forward_rows);
    context.pool.parallel_for(blocks.count(), row_work(*args), [&](int64_t block) {
        int32_t* histogram = histograms == nullptr ? nullptr : histograms + block * args->E;
        if (histogram != nullptr) std::memset(histogram, 0, histogram_bytes);
        const Scratch scratch = make_scratch(*args);
        forward_rows(*args, blocks.first(block), blocks.last(block), scratch.get(), histogram);
    });
    if (histograms != nullptr) add_histograms(*args, histograms, blocks.count());
    return MOEK_STATUS_CODE_OK;
}

moek_status gate_backward_workspace(void*, const moek_gate_args*, uint64_t* out_bytes) {
    *out_bytes = 0;
    return MOEK_STATUS_CODE_OK;
}

moek_status gate_backward(void* state, const moek_gate_args* args, void*, void*) {
    Context& context = context_of(state);
    check_strict(context, *args);
    check_ids(context, *args);
    const RowBlocks blocks(*args);
    const auto backward_rows = MOEK_SELECT_ISA(context.isa, gate_backward_rows);
    context.pool.parallel_for(blocks.count(), row_work(*args), [&](int64_t block) {
        const Scratch scratch = make_scratch(*args);
        backward_rows(*args, blocks.first(block), blocks.last(block), scratch.get());
    });
    return MOEK_STATUS_CODE_OK;
}

}  // namespace moek::cpu
