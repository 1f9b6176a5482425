#include "cpu/rank_lora/sparse.hpp"

#include <algorithm>

#include "cpu/rank_lora/sparse_isa.hpp"

namespace moek::cpu {
namespace {

int64_t blocks_of(int64_t n, int64_t block) {
    return (n + block - 1) / block;
}

template <class Job>
double work_of(const Job& job) {
    return static_cast<double>(job.T) * static_cast<double>(job.d) * static_cast<double>(job.m) / 4;
}

int64_t rows_of(const SparseCombine& job) {
    return job.rows.part[0].rows + job.rows.part[1].rows;
}

}  // namespace

RunHook RowMask::hook(const Context& context, bool f64) const {
    if (!dropout.active() && dead == nullptr) return {};
    return {f64 ? MOEK_SELECT_ISA(context.isa, mask_run_f64) : MOEK_SELECT_ISA(context.isa, mask_run_f32), this};
}

int64_t sparse_scratch_bytes(const Context& context, bool f64, int64_t rows, int64_t m) {
    return MOEK_SELECT_ISA(context.isa, sparse_task_scratch_bytes)(f64, rows, m);
}

void run_sparse(Context& context, const SparseCombine& job, ScratchSlots& scratch) {
    const int64_t strip = MOEK_SELECT_ISA(context.isa, sparse_strip)(job.f64, rows_of(job));
    const int64_t strips = blocks_of(job.d, strip);
    const auto task = MOEK_SELECT_ISA(context.isa, combine_task);
    context.pool.parallel_for(strips * blocks_of(job.T, kCombineTokens), work_of(job), [&](int64_t index) {
        const ScratchSlots::Lease lease(scratch);
        const int64_t token0 = index / strips * kCombineTokens;
        task(job, token0, std::min(kCombineTokens, job.T - token0), index % strips * strip, lease.data());
    });
}

void run_sparse(Context& context, const SparseDot& job, ScratchSlots& scratch) {
    const auto task = MOEK_SELECT_ISA(context.isa, dot_task);
    const int64_t tokens = dot_tokens(job.m);
    context.pool.parallel_for(blocks_of(job.T, tokens), work_of(job), [&](int64_t index) {
        const ScratchSlots::Lease lease(scratch);
        const int64_t token0 = index * tokens;
        task(job, token0, std::min(tokens, job.T - token0), lease.data());
    });
}

void run_sparse(Context& context, const SparseScatter& job, ScratchSlots& scratch) {
    const int64_t strip = MOEK_SELECT_ISA(context.isa, sparse_strip)(job.f64, job.target[0].rows + job.target[1].rows);
    const auto task = MOEK_SELECT_ISA(context.isa, scatter_task);
    // With many tokens wide tasks read memory better, but many tasks keep every thread busy. An element is summed over
    // the tokens in the same order either way, so its bits do not tell.
    constexpr int64_t kManyTokens = 256;
    const int64_t strips = blocks_of(job.d, strip);
    const int64_t most = job.T < kManyTokens ? 1 : kScatterStrips;
    const int64_t per_task = std::clamp<int64_t>(strips / (2 * context.pool.thread_count()), 1, most);
    context.pool.parallel_for(blocks_of(strips, per_task), work_of(job), [&](int64_t index) {
        const ScratchSlots::Lease lease(scratch);
        const int64_t col0 = index * per_task * strip;
        task(job, col0, std::min(per_task * strip, job.d - col0), lease.data());
    });
}

}  // namespace moek::cpu
