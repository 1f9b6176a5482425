// Products with a few rows per token: what a top-k gate leaves of the adapter's matrix products.
//
// S [rows, d] is a matrix, or two stacked ones; ids [T, m] picks m of its rows for every token.
//   combine   out[t, :] (+)= sum_e values[t, e] S[ids[t, e], :]          the expand, and dx
//   dot       out[t, e]   =  S[ids[t, e], :] . in[t, :]                  u = A[ids] x, and dh = B[ids] dy
//   scatter   G[ids[t, e], :] += values[t, e] in[t, :]                   dA, dB and dW_r
// An entry whose value is 0 is skipped: whatever the row or the token holds, NaN included, it contributes nothing.
//
// Arithmetic. combine: a chain of fma over e, from 0. dot: one chain per lane of a register over the columns, the lanes
// summed in a fixed order. scatter: a chain of fma over t, then e. So an element's bits depend on its own token (or, in
// scatter, on the order of tokens) and on the instruction set, never on threads, blocks or T.
#pragma once

#include <cstdint>

#include "cpu/common/context.hpp"
#include "cpu/common/gemm.hpp"
#include "cpu/common/philox.hpp"
#include "cpu/common/scratch.hpp"

namespace moek::cpu {

// Row i is data[i * stride ..]; transposed: column i of [d, rows], so element c is data[c * stride + i].
struct RowMatrix {
    const void* data;
    int64_t rows;
    int64_t stride;
    bool transposed;
};

// Two matrices of one dtype on top of each other; the second may have no rows.
struct RowStack {
    RowMatrix part[2];
    int32_t dtype;

    static RowStack one(const RowMatrix& matrix, int32_t dtype) { return {{matrix, {}}, dtype}; }
};

// [T, d] rows of tokens, multiplied by a dropout mask when that is active.
struct TokenRows {
    const void* data;
    int32_t dtype;
    int64_t stride;
    Dropout dropout;
};

struct SparseCombine {
    bool f64;  // the accumulator type
    int64_t T, d, m;
    RowStack rows;
    const int32_t* ids;
    const void* values;  // accumulator type
    void* out;
    int32_t out_dtype;
    int64_t out_stride;
    bool accumulate;
    Dropout dropout;  // a mask on the sum
};

struct SparseDot {
    bool f64;
    int64_t T, d, m;
    RowStack rows;
    const int32_t* ids;
    TokenRows in;
    void* out;  // [T, m], accumulator type
};

// A part of G. Null data: its entries are skipped.
struct ScatterTarget {
    void* data;
    int32_t dtype;
    int64_t rows;
    int64_t stride;
    bool transposed;
};

struct SparseScatter {
    bool f64;
    int64_t T, d, m;
    const int32_t* ids;
    const void* values;
    TokenRows in;
    ScatterTarget target[2];
    bool accumulate;
};

// A hook for dense products: multiplies rows [T, d] by a dropout mask, and makes rows zero whose products are all
// multiplied by zero, because a NaN there would spread (0 * NaN).
struct RowMask {
    Dropout dropout;
    int64_t d;
    const unsigned char* dead;  // [T], optional

    RunHook hook(const Context& context, bool f64) const;
};

// Most scratch a task of any of these products needs.
int64_t sparse_scratch_bytes(const Context& context, bool f64, int64_t rows, int64_t m);

void run_sparse(Context& context, const SparseCombine& job, ScratchSlots& scratch);
void run_sparse(Context& context, const SparseDot& job, ScratchSlots& scratch);
void run_sparse(Context& context, const SparseScatter& job, ScratchSlots& scratch);

}  // namespace moek::cpu
