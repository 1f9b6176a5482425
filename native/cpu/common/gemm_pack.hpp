/**
 * @file gemm_pack.hpp
 * @brief Blocks of a product's operands, converted to the accumulator type and laid out for the register tile. Only for
 * `*_isa.cpp` sources.
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
/** Most rows of a panel, of whatever form of product. */
inline constexpr int64_t kPanelRows = kTileRows > 8 ? kTileRows : 8;

/** Scratch of one task, aligned to kSimdAlignment. */
template <class Acc>
inline constexpr int64_t kGemmScratchBytes = static_cast<int64_t>(sizeof(Acc)) *
                                             (kPanelRows * kPanelStride + kDepth * kTaskCols +
                                              (kTaskRows + kTileRows) * kTaskCols);

template <class Acc>
inline constexpr int32_t kAccDtype = sizeof(Acc) == 8 ? MOEK_DTYPE_F64 : MOEK_DTYPE_F32;

inline int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/** Start of part i when n is cut into near-equal parts. */
inline int64_t part_start(int64_t n, int64_t parts, int64_t i) {
    return n / parts * i + (i < n % parts ? i : n % parts);
}

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

/** The product of C^T = B^T A^T. */
inline Gemm swap_operands(const Gemm& gemm) {
    Gemm swapped = gemm;
    swapped.M = gemm.N;
    swapped.N = gemm.M;
    swapped.a = gemm.b;
    swapped.b = gemm.a;
    swapped.c.row_major = !gemm.c.row_major;
    return swapped;
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

}  // namespace moek::cpu::MOEK_ISA_NAME
