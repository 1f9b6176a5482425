// The parts of sparse.hpp that exist once per instruction set.
#pragma once

#include "cpu/common/isa.hpp"
#include "cpu/rank_lora/sparse.hpp"

namespace moek::cpu {

// Tokens of a task: enough to pay for packing a strip of rows. A task of dot keeps m running sums per token, which
// should stay in the second-level cache.
constexpr int64_t kCombineTokens = 256;
static constexpr int64_t dot_tokens(int64_t m) {
    return m <= 8 ? 128 : (m >= 128 ? 8 : 1024 / m);
}

// Most strips of a task of scatter.
constexpr int64_t kScatterStrips = 4;

MOEK_DECLARE_PER_ISA(
    // Columns of a strip: what a task of combine and scatter works on.
    int64_t sparse_strip(bool f64, int64_t rows); int64_t sparse_task_scratch_bytes(bool f64, int64_t rows, int64_t m);
    void combine_task(const SparseCombine& job, int64_t token0, int64_t tokens, int64_t col0, void* scratch);
    void dot_task(const SparseDot& job, int64_t token0, int64_t tokens, void* scratch);
    // RunHooks with a RowMask as their state.
    void mask_run_f32(const void* mask, int64_t t, int64_t first, int64_t count, void* values);
    void mask_run_f64(const void* mask, int64_t t, int64_t first, int64_t count, void* values);
    void scatter_task(const SparseScatter& job, int64_t col0, int64_t columns, void* scratch);)

}  // namespace moek::cpu
