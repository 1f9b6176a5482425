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

#include "cpu/common/convert.hpp"
#include "cpu/common/gemm.hpp"
#include "cpu/common/simd.hpp"

namespace moek::cpu::MOEK_ISA_NAME {

#if defined(__AVX512F__)
inline constexpr int kTileRows = 14;  // 28 accumulators, 2 registers of B, 1 broadcast: 31 of 32
#elif defined(__AVX2__)
inline constexpr int kTileRows = 6;  // 12 accumulators, 2 registers of B, 1 broadcast: 15 of 16
#else
inline constexpr int kTileRows = 4;  // 8 accumulators; the baseline needs a register for each product
#endif
inline constexpr int kTileVectors = 2;
template <class Acc>
inline constexpr int kTileCols = kTileVectors* Vec<Acc>::kLanes;

/** Depth of a block: a panel of A and one of B stay in the first-level cache. Part of the definition of the result. */
inline constexpr int64_t kDepth = 256;
/** Most columns of a task: the packed block of B stays in the second-level cache. */
inline constexpr int64_t kTaskCols = 256;
/** Most rows of a task: enough to pay for packing the block of B, few enough to give every thread some. */
inline constexpr int64_t kTaskRows = 252;
/** Row stride of a packed panel of A: not a power of two, so that its rows fall into different cache sets. */
inline constexpr int64_t kPanelStride = kDepth + 16;

/** Scratch of one task, aligned to kSimdAlignment. */
template <class Acc>
inline constexpr int64_t kGemmScratchBytes = static_cast<int64_t>(sizeof(Acc)) *
                                             (kTileRows * kPanelStride + kDepth * kTaskCols +
                                              (kTaskRows + kTileRows) * kTaskCols);

inline int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/** Start of part i when n is cut into near-equal parts. */
inline int64_t part_start(int64_t n, int64_t parts, int64_t i) {
    return n / parts * i + (i < n % parts ? i : n % parts);
}

/**
 * Few rows: the vectors of the register tile hold rows instead of columns when that spares transposing the larger
 * operand, unless that one is so shallow that writing the result across costs more. Bits do not change (a product
 * commutes), so this may depend on M.
 */
template <class Acc>
inline bool swaps_operands(const Gemm& gemm) {
    return gemm.b.along_depth && gemm.M <= kTileCols<Acc> && gemm.M < gemm.N && gemm.K > 4 * gemm.M;
}

// ---------------------------------------------------------------------------------------------------------------------
// Packing
// ---------------------------------------------------------------------------------------------------------------------

inline const void* operand_at(const GemmOperand& operand, int64_t vector, int64_t k) {
    const int64_t slow = operand.along_depth ? vector : k;
    const int64_t fast = operand.along_depth ? k : vector;
    if (slow < operand.split) return element(operand.data, operand.dtype, slow * operand.stride + fast);
    return element(operand.tail, operand.dtype, (slow - operand.split) * operand.tail_stride + fast);
}

/** target[0..depth) = the elements k0.. of one vector. */
template <class Acc>
inline void load_depth_run(const GemmOperand& operand, int64_t vector, int64_t k0, int64_t depth, Acc* target) {
    if (operand.data != nullptr) load_run<Acc>(operand_at(operand, vector, k0), operand.dtype, depth, target);
    if (operand.hook.apply) operand.hook.apply(operand.hook.state, vector, k0, depth, target);
}

/** target[0..count) = element k of the vectors first.. */
template <class Acc>
inline void load_vector_run(const GemmOperand& operand, int64_t first, int64_t count, int64_t k, Acc* target) {
    if (operand.data != nullptr) load_run<Acc>(operand_at(operand, first, k), operand.dtype, count, target);
    if (operand.hook.apply) operand.hook.apply(operand.hook.state, k, first, count, target);
}

/** Packs `rows` vectors of A: row by row (stride kPanelStride) or k by k (stride kTileRows), as they lie in memory. */
template <class Acc>
inline void pack_a(const GemmOperand& a, int64_t row0, int64_t rows, int64_t k0, int64_t depth, Acc* panel) {
    if (a.along_depth) {
        for (int64_t i = 0; i < rows; ++i) load_depth_run(a, row0 + i, k0, depth, panel + i * kPanelStride);
    } else {
        for (int64_t k = 0; k < depth; ++k) load_vector_run(a, row0, rows, k0 + k, panel + k * kTileRows);
    }
}

/** Width of a packed panel of B that holds `cols` columns: one or two registers. */
template <class Acc>
inline int64_t panel_width(int64_t cols) {
    return cols <= Vec<Acc>::kLanes ? Vec<Acc>::kLanes : kTileCols<Acc>;
}

/** Packs `count` columns of B that are contiguous along depth as one panel [depth, width], padded with zeros. */
template <class Acc>
inline void pack_b_transposed(const GemmOperand& b, int64_t col0, int64_t count, int64_t k0, int64_t depth, Acc* panel,
                              int64_t width) {
    using V = Vec<Acc>;
    constexpr int64_t kLanes = V::kLanes;
    // Through a buffer: it converts, pads, and keeps the strided side of the transposition in the first-level cache.
    Acc rows[size_t{V::kLanes * kPanelStride}];
    for (int64_t j0 = 0; j0 < width; j0 += kLanes) {
        for (int64_t j = 0; j < kLanes; ++j) {
            Acc* const row = rows + j * kPanelStride;
            if (j0 + j < count) {
                load_depth_run<Acc>(b, col0 + j0 + j, k0, depth, row);
            } else {
                for (int64_t k = 0; k < depth; ++k) row[k] = 0;
            }
        }
        int64_t k = 0;
        for (; k + kLanes <= depth; k += kLanes) {
            V::transpose(rows + k, kPanelStride, panel + k * width + j0, width);
        }
        for (; k < depth; ++k) {
            for (int64_t j = 0; j < kLanes; ++j) panel[k * width + j0 + j] = rows[j * kPanelStride + k];
        }
    }
}

/** Packs columns of B as panels [depth, width], the last one padded with zeros. */
template <class Acc>
inline void pack_b(const GemmOperand& b, int64_t col0, int64_t cols, int64_t k0, int64_t depth, Acc* block) {
    constexpr int64_t kCols = kTileCols<Acc>;
    if (b.along_depth) {
        for (int64_t start = 0; start < cols; start += kCols) {
            const int64_t count = cols - start < kCols ? cols - start : kCols;
            const int64_t width = panel_width<Acc>(count);
            pack_b_transposed(b, col0 + start, count, k0, depth, block + start * depth, width);
        }
        return;
    }
    // Rows lie far apart, too far for a processor to foresee.
    constexpr int64_t kAhead = 8;
    const int64_t row_bytes = b.data == nullptr ? 0 : cols * static_cast<int64_t>(dtype_size(b.dtype));
    for (int64_t k = 0; k < depth; ++k) {
        if (k + kAhead < depth) {
            for (int64_t offset = 0; offset < row_bytes; offset += 64) {
                prefetch(static_cast<const char*>(operand_at(b, col0, k0 + k + kAhead)) + offset);
            }
        }
        for (int64_t start = 0; start < cols; start += kCols) {
            const int64_t count = cols - start < kCols ? cols - start : kCols;
            const int64_t width = panel_width<Acc>(count);
            Acc* const target = block + start * depth + k * width;
            load_vector_run(b, col0 + start, count, k0 + k, target);
            for (int64_t j = count; j < width; ++j) target[j] = 0;
        }
    }
}

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
// Writing a tile
// ---------------------------------------------------------------------------------------------------------------------

template <class Acc>
inline void write_run(const GemmResult& c, Acc alpha, int64_t outer, int64_t first, int64_t count, Acc* values,
                      void* target) {
    if (c.hook.apply) {
        store_scaled_run<Acc>(alpha, values, count, sizeof(Acc) == 8 ? MOEK_DTYPE_F64 : MOEK_DTYPE_F32, values);
        c.hook.apply(c.hook.state, outer, first, count, values);
        alpha = 1;
    }
    if (c.accumulate) {
        add_scaled_run<Acc>(alpha, values, count, c.dtype, target);
    } else {
        store_scaled_run<Acc>(alpha, values, count, c.dtype, target);
    }
}

/** Writes tile [rows, cols] with row stride `width` at (row0, col0) of C. Destroys the tile. */
template <class Acc>
inline void write_tile(const GemmResult& c, Acc alpha, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                       Acc* tile, int64_t width) {
    if (c.row_major) {
        for (int64_t i = 0; i < rows; ++i) {
            void* target = element(c.data, c.dtype, (row0 + i) * c.stride + col0);
            write_run(c, alpha, row0 + i, col0, cols, tile + i * width, target);
        }
        return;
    }
    for (int64_t j = 0; j < cols; ++j) {
        Acc run[kTileRows];
        for (int64_t i = 0; i < rows; ++i) run[i] = tile[i * width + j];
        void* target = element(c.data, c.dtype, (col0 + j) * c.stride + row0);
        write_run(c, alpha, col0 + j, row0, rows, run, target);
    }
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

template <class Acc>
inline constexpr int32_t kAccDtype = sizeof(Acc) == 8 ? MOEK_DTYPE_F64 : MOEK_DTYPE_F32;

/** Rows row0.. and columns col0.. of C. */
template <class Acc>
inline void gemm_block(const Gemm& gemm, int64_t row0, int64_t rows, int64_t col0, int64_t cols, void* scratch) {
    constexpr int64_t kCols = kTileCols<Acc>;
    Acc* const panel = static_cast<Acc*>(scratch);
    Acc* const block = panel + kTileRows * kPanelStride;
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

/** Computes task `task` of a plan. */
template <class Acc>
inline void run_gemm_task(const Gemm& gemm, const GemmPlan& plan, int64_t task, void* scratch) {
    Gemm turned = gemm;
    if (plan.swapped) {
        turned.M = gemm.N;
        turned.N = gemm.M;
        turned.a = gemm.b;
        turned.b = gemm.a;
        turned.c.row_major = !gemm.c.row_major;
    }
    const int64_t row = task / plan.col_tasks;
    const int64_t col = task % plan.col_tasks;
    const int64_t row0 = part_start(turned.M, plan.row_tasks, row);
    const int64_t col0 = col * kTaskCols;
    const int64_t cols = turned.N - col0 < kTaskCols ? turned.N - col0 : kTaskCols;
    gemm_block<Acc>(turned, row0, part_start(turned.M, plan.row_tasks, row + 1) - row0, col0, cols, scratch);
}

}  // namespace moek::cpu::MOEK_ISA_NAME
