// The parts of core_merge that exist once per instruction set.
#pragma once

#include <cstdint>

#include "cpu/common/gemm.hpp"
#include "cpu/common/isa.hpp"
#include "cpu/common/philox.hpp"

namespace moek::cpu {

// A call with places for what lies between inputs and outputs: the caller's tensor where there is one, else workspace.
// All of it in the accumulator dtype, dense unless a stride is given.
struct CoreMergeCall {
    moek_core_merge_args args;
    bool f64;  // the accumulator dtype
    void* u;   // [T, r]
    int64_t u_stride;
    void* logits;  // [T, E]; may be p
    int64_t logits_stride;
    void* p;   // [T, E]
    void* v;   // [T, r]
    void* dv;  // [T, r]
    void* du;  // [T, r]
    void* dl;  // [T, E]: first the gradient to p, then the one to the logits
};

// The elements of a token's w = p (x) u [E r]: element e r + i is p_e u_i.
struct WeightedRanks {
    const void* u;
    int64_t u_stride;
    const void* p;
    int64_t r;
    int64_t E;
};

// What happens to the rows of a matrix with d columns on their way into a product: their dropout, and rows of tokens
// that weigh nothing become zero, because a NaN there would spread (0 * NaN). p [T, E] is null where no token does.
struct RowFilter {
    Dropout dropout;
    int64_t d;
    const void* p;
    int64_t E;

    bool active() const { return dropout.active() || p != nullptr; }
};

static inline Dropout input_dropout(const moek_core_merge_args& args) {
    return {args.dropout_p, args.dropout_seed, args.dropout_offset, MOEK_DROPOUT_STREAM_INPUT};
}

static inline Dropout core_dropout(const moek_core_merge_args& args) {
    return {args.dropout_core_p, args.dropout_seed, args.dropout_offset, MOEK_DROPOUT_STREAM_CORE};
}

// A block of the kernels below: what one of their calls works on. Its scratch memory is that of a product's task, then
// kCoreMergeTokens * kCoreMergeColumns elements.
inline constexpr int64_t kCoreMergeTokens = 128;
inline constexpr int64_t kCoreMergeColumns = 256;

static inline int64_t blocks_of(int64_t n, int64_t size) {
    return n / size + (n % size != 0 ? 1 : 0);
}

struct CoreMergeKernels {
    // Hooks: the state is a WeightedRanks, whose values replace the run's, and a RowFilter.
    void (*weighted_ranks)(const void* state, int64_t t, int64_t first, int64_t count, void* values);
    void (*filter_rows)(const void* state, int64_t t, int64_t first, int64_t count, void* values);

    // A block of tokens: with the CORE router the logits, then p. The first token with a NaN among its logits, or -1.
    int64_t (*route)(const CoreMergeCall& call, int64_t block, void* scratch);
    // A block of tokens: from dv to dp, du and dl. True when one of them weighs nothing: all its p are 0.
    bool (*mix_back)(const CoreMergeCall& call, int64_t block, void* scratch);
    // A block of tokens and one of columns: dx when the INPUT router reads the same x as A.
    void (*input_gradient)(const CoreMergeCall& call, int64_t token_block, int64_t column_block, void* scratch);
};

MOEK_DECLARE_PER_ISA(CoreMergeKernels core_merge_kernels(bool f64);)

// ---------------------------------------------------------------------------------------------------------------------
// The operands of a product, for both sides of this header
// ---------------------------------------------------------------------------------------------------------------------

static inline int32_t accumulator_of(bool f64) {
    return f64 ? MOEK_DTYPE_F64 : MOEK_DTYPE_F32;
}

// Vectors that are contiguous: the rows of `data`.
static inline GemmOperand rows_of(const void* data, int32_t dtype, int64_t stride, RunHook hook = {}) {
    GemmOperand operand;
    operand.data = data;
    operand.dtype = dtype;
    operand.stride = stride;
    operand.along_depth = true;
    operand.hook = hook;
    return operand;
}

// Vectors that lie across: the columns of `data`.
static inline GemmOperand columns_of(const void* data, int32_t dtype, int64_t stride, RunHook hook = {}) {
    GemmOperand operand = rows_of(data, dtype, stride, hook);
    operand.along_depth = false;
    return operand;
}

static inline GemmResult result_in(void* data, int32_t dtype, int64_t stride, bool accumulate = false) {
    GemmResult result;
    result.data = data;
    result.dtype = dtype;
    result.stride = stride;
    result.accumulate = accumulate;
    return result;
}

static inline Gemm product(bool f64, int64_t M, int64_t N, int64_t K, const GemmOperand& a, const GemmOperand& b,
                           const GemmResult& c, double alpha = 1) {
    Gemm gemm;
    gemm.M = M;
    gemm.N = N;
    gemm.K = K;
    gemm.alpha = alpha;
    gemm.f64 = f64;
    gemm.a = a;
    gemm.b = b;
    gemm.c = c;
    return gemm;
}

}  // namespace moek::cpu
