/**
 * @file gemm_kernel.hpp
 * @brief How gemm.hpp's product is computed on one instruction set. Only for `*_isa.cpp` sources.
 *
 * The blocking is that of GotoBLAS and BLIS (Van Zee and van de Geijn, "BLIS: A Framework for Rapidly Instantiating
 * BLAS Functionality", ACM TOMS 2015): blocks of B are packed for the vectors of a register tile, panels of A for its
 * broadcasts, both converted to the accumulator type on the way.
 *
 * Every sum is a chain of `fma` over blocks of kDepth, whatever the tile: see gemm.hpp for what follows from that.
 */
#pragma once

#include "cpu/common/gemm_thin.hpp"
#include "cpu/common/gemm_write.hpp"

namespace moek::cpu::MOEK_ISA_NAME {

// ---------------------------------------------------------------------------------------------------------------------
// The register tile
// ---------------------------------------------------------------------------------------------------------------------

/** out [Rows, Vectors * lanes] (+)= panel of A times columns of B, whose rows lie b_stride apart. */
template <class Acc, int Rows, int Vectors, bool RowByRow>
void multiply_panels(const Acc* a, const Acc* b, int64_t b_stride, int64_t depth, bool add, Acc* out,
                     int64_t out_stride) {
    using V = Vec<Acc>;
    constexpr int64_t kRowStep = RowByRow ? kPanelStride : 1;
    constexpr int64_t kDepthStep = RowByRow ? 1 : kTileRows;
    typename V::Reg sum[size_t{Rows}][size_t{Vectors}];
    MOEK_UNROLL
    for (int i = 0; i < Rows; ++i) {
        MOEK_UNROLL
        for (int v = 0; v < Vectors; ++v) sum[i][v] = V::zero();
    }
    for (int64_t k = 0; k < depth; ++k) {
        typename V::Reg column[size_t{Vectors}];
        MOEK_UNROLL
        for (int v = 0; v < Vectors; ++v) column[v] = V::load(b + v * V::kLanes);
        MOEK_UNROLL
        for (int i = 0; i < Rows; ++i) {
            const typename V::Reg row = V::set1(a[i * kRowStep]);
            MOEK_UNROLL
            for (int v = 0; v < Vectors; ++v) sum[i][v] = V::fma(row, column[v], sum[i][v]);
        }
        a += kDepthStep;
        b += b_stride;
    }
    MOEK_UNROLL
    for (int i = 0; i < Rows; ++i) {
        MOEK_UNROLL
        for (int v = 0; v < Vectors; ++v) {
            Acc* const target = out + i * out_stride + v * V::kLanes;
            V::store(target, add ? V::add(V::load(target), sum[i][v]) : sum[i][v]);
        }
    }
}

template <class Acc>
using PanelKernel = void (*)(const Acc* a, const Acc* b, int64_t b_stride, int64_t depth, bool add, Acc* out,
                             int64_t out_stride);

template <class Acc, int Vectors, bool RowByRow, int Rows = 1>
inline PanelKernel<Acc> find_kernel(int64_t rows) {
    if constexpr (Rows == kTileRows) {
        return multiply_panels<Acc, Rows, Vectors, RowByRow>;
    } else {
        if (rows == Rows) return multiply_panels<Acc, Rows, Vectors, RowByRow>;
        return find_kernel<Acc, Vectors, RowByRow, Rows + 1>(rows);
    }
}

template <class Acc>
inline PanelKernel<Acc> find_kernel(int64_t rows, int64_t width, bool row_by_row) {
    if (width == kTileCols<Acc>) {
        return row_by_row ? find_kernel<Acc, kTileVectors, true>(rows) : find_kernel<Acc, kTileVectors, false>(rows);
    }
    return row_by_row ? find_kernel<Acc, 1, true>(rows) : find_kernel<Acc, 1, false>(rows);
}

// ---------------------------------------------------------------------------------------------------------------------
// A task
// ---------------------------------------------------------------------------------------------------------------------

/** Asks for part `part` of `parts` of the next panel of A, so that its way from memory hides behind the arithmetic. */
inline void prefetch_a(const GemmOperand& a, int64_t row0, int64_t rows, int64_t k0, int64_t depth, int64_t part,
                       int64_t parts) {
    if (!a.along_depth || a.data == nullptr) return;
    const int64_t bytes = depth * static_cast<int64_t>(dtype_size(a.dtype));
    for (int64_t i = part_start(rows, parts, part); i < part_start(rows, parts, part + 1); ++i) {
        const char* line = static_cast<const char*>(operand_at(a, row0 + i, k0));
        for (int64_t offset = 0; offset < bytes; offset += 64) prefetch(line + offset);
    }
}

/** Rows row0.. and columns col0.. of C. */
template <class Acc>
inline void gemm_block(const Gemm& gemm, int64_t row0, int64_t rows, int64_t col0, int64_t cols, void* scratch) {
    constexpr int64_t kCols = kTileCols<Acc>;
    Acc* const panel = static_cast<Acc*>(scratch);
    Acc* const block = panel + kPanelRows * kPanelStride;
    Acc* const sums = block + kDepth * kTaskCols;
    const GemmOperand& b = gemm.b;
    const GemmResult& c = gemm.c;
    const int64_t panels = ceil_div(rows, kTileRows);
    const int64_t col_panels = ceil_div(cols, kCols);
    // K = 0 still writes: an empty sum is 0.
    const int64_t depths = gemm.K == 0 ? 1 : ceil_div(gemm.K, kDepth);
    // Two short cuts that change no bit: B is read where it lies when too few rows would pay for packing it (and while
    // its own rows are few: they often fall into the same cache sets), and sums are formed in C itself when nothing has
    // to be done to them on the way.
    constexpr int64_t kMostInPlace = 64;
    const bool b_in_place = !b.along_depth && b.dtype == kAccDtype<Acc> && !b.hook.apply && b.split >= gemm.K &&
                            panels <= 2 && gemm.K <= kMostInPlace;
    const bool c_in_place =
        c.row_major && c.dtype == kAccDtype<Acc> && !c.hook.apply && gemm.alpha == 1 && (depths == 1 || !c.accumulate);
    for (int64_t d = 0; d < depths; ++d) {
        const int64_t k0 = d * kDepth;
        const int64_t depth = gemm.K - k0 < kDepth ? gemm.K - k0 : kDepth;
        const bool last = d + 1 == depths;
        if (!b_in_place) {
            pack_b(b, col0, cols, k0, depth, block);
        } else if (cols % kCols != 0) {
            const int64_t edge = cols / kCols * kCols;
            pack_b(b, col0 + edge, cols - edge, k0, depth, block + edge * depth);
        }
        for (int64_t p = 0; p < panels; ++p) {
            const int64_t i0 = part_start(rows, panels, p);
            const int64_t i1 = part_start(rows, panels, p + 1);
            pack_a(gemm.a, row0 + i0, i1 - i0, k0, depth, panel);
            for (int64_t q = 0; q < col_panels; ++q) {
                const int64_t j0 = q * kCols;
                const int64_t count = cols - j0 < kCols ? cols - j0 : kCols;
                const int64_t width = panel_width<Acc>(count);
                if (p + 1 < panels) {
                    const int64_t next = part_start(rows, panels, p + 2) - i1;
                    prefetch_a(gemm.a, row0 + i1, next, k0, depth, q, col_panels);
                }
                const Acc* columns = block + j0 * depth;
                int64_t columns_stride = width;
                if (b_in_place && count == kCols) {
                    columns = static_cast<const Acc*>(operand_at(b, col0 + j0, k0));
                    columns_stride = b.stride;
                }
                const PanelKernel<Acc> multiply = find_kernel<Acc>(i1 - i0, width, gemm.a.along_depth);
                if (c_in_place && count == width) {
                    Acc* const out = static_cast<Acc*>(c.data) + (row0 + i0) * c.stride + col0 + j0;
                    multiply(panel, columns, columns_stride, depth, d > 0 || c.accumulate, out, c.stride);
                    continue;
                }
                Acc* const tile = sums + (depths == 1 ? 0 : (p * col_panels + q) * (kTileRows * kCols));
                multiply(panel, columns, columns_stride, depth, d > 0, tile, width);
                if (last)
                    write_tile(c, static_cast<Acc>(gemm.alpha), row0 + i0, i1 - i0, col0 + j0, count, tile, width);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Which form, and its tasks
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Few rows: the vectors of the register tile hold rows instead of columns when that spares transposing the larger
 * operand, unless that one is so shallow that writing the result across costs more.
 */
template <class Acc>
inline bool swaps_operands(const Gemm& gemm) {
    return gemm.b.along_depth && gemm.M <= kTileCols<Acc> && gemm.M < gemm.N && gemm.K > 4 * gemm.M;
}

/** No form and no swap changes a bit (a product commutes), so this may depend on the shape. */
template <class Acc>
inline GemmForm form_of(const Gemm& gemm, bool& swapped) {
    swapped = false;
    if (gemm.K == 0) return GemmForm::Blocks;
    if (!gemm.a.along_depth && !gemm.b.along_depth) {
        swapped = gemm.M > kMostThinRows && gemm.N <= kMostThinRows;
        return swapped || gemm.M <= kMostThinRows ? GemmForm::ThinRows : GemmForm::Blocks;
    }
    swapped = swaps_operands<Acc>(gemm);
    if (swapped || !gemm.a.along_depth) return GemmForm::Blocks;
    if (gemm.N <= kTileCols<Acc>) return GemmForm::ThinColumns;
    return gemm.K <= kShallowDepth ? GemmForm::Shallow : GemmForm::Blocks;
}

template <class Acc>
inline GemmPlan make_plan(const Gemm& gemm) {
    GemmPlan plan;
    plan.form = form_of<Acc>(gemm, plan.swapped);
    const int64_t M = plan.swapped ? gemm.N : gemm.M;
    const int64_t N = plan.swapped ? gemm.M : gemm.N;
    const bool shared = gemm.packed != nullptr;
    plan.task_rows = kTaskRows;
    plan.task_cols = kTaskCols;
    if (plan.form == GemmForm::ThinColumns) {
        if (shared) plan.pack_tasks = ceil_div(gemm.K, kDepth);
        if (shared) plan.task_rows = kSharedTaskRows;
    } else if (plan.form == GemmForm::Shallow && shared && !reads_shallow_in_place<Acc>(gemm)) {
        plan.pack_tasks = ceil_div(N, kTaskCols);
        plan.task_rows = kSharedTaskRows;
        plan.task_cols = kDepth / gemm.K * kTaskCols;
    }
    plan.row_tasks = ceil_div(M, plan.task_rows);
    plan.col_tasks = ceil_div(N, plan.task_cols);
    return plan;
}

/** Packs part `index` of B for all tasks. */
template <class Acc>
inline void run_pack_task(const Gemm& gemm, const GemmPlan& plan, int64_t index) {
    Acc* const packed = static_cast<Acc*>(gemm.packed);
    if (plan.form == GemmForm::ThinColumns) {
        pack_thin_columns(gemm, index, packed + index * kDepth * panel_width<Acc>(gemm.N));
    } else {
        pack_shallow(gemm, index, packed + index * kTaskCols * gemm.K);
    }
}

/** Computes task `task` of a plan. */
template <class Acc>
inline void run_gemm_task(const Gemm& given, const GemmPlan& plan, int64_t task, void* scratch) {
    Gemm gemm = plan.swapped ? swap_operands(given) : given;
    if (plan.pack_tasks == 0) gemm.packed = nullptr;
    const int64_t row = task / plan.col_tasks;
    const int64_t row0 = part_start(gemm.M, plan.row_tasks, row);
    const int64_t rows = part_start(gemm.M, plan.row_tasks, row + 1) - row0;
    const int64_t col0 = task % plan.col_tasks * plan.task_cols;
    const int64_t cols = gemm.N - col0 < plan.task_cols ? gemm.N - col0 : plan.task_cols;
    switch (plan.form) {
        case GemmForm::ThinColumns:
            return thin_columns_block<Acc>(gemm, row0, rows, scratch);
        case GemmForm::ThinRows:
            return thin_rows_block<Acc>(gemm, col0, cols, scratch);
        case GemmForm::Shallow:
            return shallow_block<Acc>(gemm, row0, rows, col0, cols, scratch);
        case GemmForm::Blocks:
            return gemm_block<Acc>(gemm, row0, rows, col0, cols, scratch);
    }
}

}  // namespace moek::cpu::MOEK_ISA_NAME
