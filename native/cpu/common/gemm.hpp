// C (+)= alpha * A * B for the skinny products of LoRA: A [M, K], B [K, N], C [M, N], each row- or column-major, of any
// dtype.
//
// Arithmetic. With the accumulator type f32 (f64 for f64) every element of C is
//     s_0 + s_1 + ...      with s_b = fma(a_k, b_k, ...) over the k of block b in ascending order, blocks of 256
// then multiplied by alpha, or fused with it into the old value, and rounded once. Tile shapes, edges, threads and the
// other elements have no influence on that: an element's bits depend on its row of A, its column of B and K only. So
// the result is the same for every thread count and for every M and N (batch invariance). Products of two bf16 matrices on
// MOEK_ISA_AVX512_BF16 have chains of their own, see gemm_pairs.hpp.
#pragma once

#include <cstdint>

#include "cpu/common/context.hpp"
#include "cpu/common/scratch.hpp"
#include "moekernels.h"

namespace moek::cpu {

// Changes a run of elements in the accumulator type on its way: a dropout mask, a factor per column. A run lies along
// the contiguous dimension of the matrix in memory: `outer` is the index in the other dimension, `first` the index of
// values[0] in this one. An element must get the same value however the runs are cut.
struct RunHook {
    void (*apply)(const void* state, int64_t outer, int64_t first, int64_t count, void* values) = nullptr;
    const void* state = nullptr;
};

// An operand as a list of vectors of K elements: the rows of A, or the columns of B. Either each vector is contiguous
// (along_depth: x in x W^T, and W there too) and `stride` leads to the next one, or the elements k of all vectors are
// contiguous (x in dU^T x, and dU there too) and `stride` leads from k to k + 1.
struct GemmOperand {
    const void* data = nullptr;  // null: nothing is read, the hook makes the elements
    int32_t dtype = MOEK_DTYPE_F32;
    int64_t stride = 0;
    bool along_depth = true;
    RunHook hook = {};
    // Rows in memory from `split` on come from `tail`: [A; W_r] without copying them together.
    int64_t split = INT64_MAX;
    const void* tail = nullptr;
    int64_t tail_stride = 0;
};

// The result: row-major with `stride` between rows, or column-major with `stride` between columns.
struct GemmResult {
    void* data = nullptr;
    int32_t dtype = MOEK_DTYPE_F32;
    int64_t stride = 0;
    bool row_major = true;
    bool accumulate = false;
    RunHook hook = {};  // sees alpha * A * B before it is added or stored
};

struct Gemm {
    int64_t M = 0, N = 0, K = 0;
    double alpha = 1;
    bool f64 = false;  // the accumulator type
    GemmOperand a;
    GemmOperand b;
    GemmResult c;
    // gemm_packed_bytes of memory for a B that is packed once for all tasks. Null: each packs its own, which is wasted
    // work where many tasks need the same.
    void* packed = nullptr;
};

// What a product is bound by, and so how it is computed: see gemm_kernel.hpp and gemm_thin.hpp.
enum class GemmForm : int32_t { Blocks, ThinColumns, ThinRows, Shallow };

// How a product is cut into tasks: a function of its shape and layout only. Tasks write disjoint parts of C.
struct GemmPlan {
    GemmForm form = GemmForm::Blocks;
    bool swapped = false;    // computed as C^T = B^T A^T
    int64_t pack_tasks = 0;  // parts of B that are packed first, for all tasks
    int64_t row_tasks = 0, col_tasks = 0;
    int64_t task_rows = 0, task_cols = 0;  // at most
    int64_t tasks() const { return row_tasks * col_tasks; }
};

// A way to compute products: its plan, its tasks, and packing before them if the plan has such.
struct GemmFunctions {
    GemmPlan (*plan)(const Gemm& gemm);
    void (*pack)(const Gemm& gemm, const GemmPlan& plan, int64_t index);
    void (*task)(const Gemm& gemm, const GemmPlan& plan, int64_t task, void* scratch);
};

// Scratch bytes of one task.
int64_t gemm_scratch_bytes(const Context& context, bool f64);

// Bytes of `packed` for a B [K, N]; 0 when it is not used. Sizes that fit in no memory give no less than 2^60.
uint64_t gemm_packed_bytes(bool f64, int64_t N, int64_t K);

// Runs the product on the context's threads. `scratch` has slots of at least gemm_scratch_bytes.
void run_gemm(Context& context, const Gemm& gemm, ScratchSlots& scratch);

// The same in one way of several.
void run_gemm(Context& context, const Gemm& gemm, ScratchSlots& scratch, const GemmFunctions& functions);

}  // namespace moek::cpu
