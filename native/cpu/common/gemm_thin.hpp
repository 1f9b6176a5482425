/**
 * @file gemm_thin.hpp
 * @brief The products of a small rank. Only for `*_isa.cpp` sources.
 *
 * Each has one operand that is used once or a few times: copying it into panels would cost as much as the arithmetic
 * hides. So it is read where it lies, wherever its dtype and layout allow that:
 *   thin columns   x A^T, dy B: few columns; rows of A are broadcast from where they lie
 *   thin rows      du^T x, v^T dy: few rows; rows of B are the vectors, a few of them at a time, so that the sums of a
 *                  whole task stay in the first-level cache meanwhile
 *   shallow        v B^T, du A: little depth, so mostly writing C, in whole rows
 *
 * Sums are the chains of gemm.hpp, bit for bit. A chain may lie in memory between two of its steps, which rounds
 * nothing.
 */
#pragma once

#include "cpu/common/gemm_write.hpp"

namespace moek::cpu::MOEK_ISA_NAME {

/** Most depth of a shallow product. */
inline constexpr int64_t kShallowDepth = 64;
/** Rows of a task whose B was packed for all tasks together. */
inline constexpr int64_t kSharedTaskRows = 64;

/** Rows of a tile that come from where they lie: one address each. Fewer with two vectors of columns. */
inline constexpr int64_t kThinTileRows = 8;
#if defined(__AVX512F__)
inline constexpr int64_t kThinTileRows2 = 8;
inline constexpr int64_t kShallowTileRows = 6;  // short chains: what the next tile does not wait for
inline constexpr int kGradientRows = 16;
inline constexpr int kGradientVectors = 1;
#elif defined(__AVX2__)
inline constexpr int64_t kThinTileRows2 = 6;
inline constexpr int64_t kShallowTileRows = 6;
inline constexpr int kGradientRows = 6;
inline constexpr int kGradientVectors = 2;
#else
inline constexpr int64_t kThinTileRows2 = 4;
inline constexpr int64_t kShallowTileRows = 4;
inline constexpr int kGradientRows = 4;
inline constexpr int kGradientVectors = 2;
#endif
/** Most rows of the form thin rows: sums of so many rows of a task are small beside the first-level cache. */
inline constexpr int64_t kMostThinRows = 32;

// ---------------------------------------------------------------------------------------------------------------------
// The register tile
// ---------------------------------------------------------------------------------------------------------------------

enum class Sums {
    Store,     // out = alpha sum
    Add,       // out = fma(alpha, sum, out)
    Continue,  // out holds the chain so far; alpha is 1
};

template <class Acc>
struct ThinTile {
    const Acc* a;
    int64_t a_stride;  // from row to row, or from k to k + 1
    const Acc* b;
    int64_t b_stride;  // from k to k + 1
    int64_t depth;
    int64_t ahead;  // elements from a row of b to one that is wanted soon; 0: none is
    Sums sums;
    Acc alpha;
};

/**
 * out [Rows, Vectors * lanes]. Element (i, k) of a: a[i a_stride + k], or a[k a_stride + i] with DepthMajor, where
 * out_stride is kTaskCols.
 */
template <class Acc, int Rows, int Vectors, bool DepthMajor, bool Continued, class Out>
inline void sum_tile(const ThinTile<Acc>& tile, Out* out, int64_t out_stride) {
    using V = Vec<Acc>;
    if (DepthMajor) out_stride = kTaskCols;
    const Acc* row[size_t{Rows}];
    MOEK_UNROLL
    for (int i = 0; i < Rows; ++i) row[i] = DepthMajor ? tile.a + i : tile.a + i * tile.a_stride;
    const int64_t a_step = DepthMajor ? tile.a_stride : 1;
    const Acc* b = tile.b;
    const int64_t b_stride = tile.b_stride;
    const int64_t depth = tile.depth;
    const int64_t ahead = tile.ahead;
    typename V::Reg sum[size_t{Rows}][size_t{Vectors}];
    MOEK_UNROLL
    for (int i = 0; i < Rows; ++i) {
        MOEK_UNROLL
        for (int v = 0; v < Vectors; ++v) {
            sum[i][v] = Continued ? V::load(out + i * out_stride + v * V::kLanes) : V::zero();
        }
    }
    for (int64_t k = 0; k < depth; ++k) {
        typename V::Reg column[size_t{Vectors}];
        MOEK_UNROLL
        for (int v = 0; v < Vectors; ++v) {
            column[v] = V::load(b + v * V::kLanes);
            if (DepthMajor) prefetch(b + ahead + v * V::kLanes);
        }
        MOEK_UNROLL
        for (int i = 0; i < Rows; ++i) {
            const typename V::Reg factor = V::set1(DepthMajor ? row[0][k * a_step + i] : row[i][k]);
            MOEK_UNROLL
            for (int v = 0; v < Vectors; ++v) sum[i][v] = V::fma(factor, column[v], sum[i][v]);
        }
        b += b_stride;
    }
    if (tile.sums == Sums::Add) {
        const typename V::Reg alpha = V::set1(tile.alpha);
        MOEK_UNROLL
        for (int i = 0; i < Rows; ++i) {
            MOEK_UNROLL
            for (int v = 0; v < Vectors; ++v) {
                Out* const target = out + i * out_stride + v * V::kLanes;
                V::store(target, V::fma(alpha, sum[i][v], V::load(target)));
            }
        }
        return;
    }
    // Not where it changes nothing: a shallow sum takes little more than its products.
    if (tile.alpha != 1) {
        const typename V::Reg alpha = V::set1(tile.alpha);
        MOEK_UNROLL
        for (int i = 0; i < Rows; ++i) {
            MOEK_UNROLL
            for (int v = 0; v < Vectors; ++v) sum[i][v] = V::mul(alpha, sum[i][v]);
        }
    }
    MOEK_UNROLL
    for (int i = 0; i < Rows; ++i) {
        MOEK_UNROLL
        for (int v = 0; v < Vectors; ++v) V::store(out + i * out_stride + v * V::kLanes, sum[i][v]);
    }
}

// Two copies of the loop: with one, the compiler computes the addresses of `out` ahead of it and runs out of registers.
template <class Acc, int Rows, int Vectors, bool DepthMajor, class Out>
void multiply_thin(const ThinTile<Acc>& tile, void* out, int64_t out_stride) {
    if (tile.sums == Sums::Continue) {
        sum_tile<Acc, Rows, Vectors, DepthMajor, true>(tile, static_cast<Acc*>(out), out_stride);
    } else {
        sum_tile<Acc, Rows, Vectors, DepthMajor, false>(tile, static_cast<Out*>(out), out_stride);
    }
}

/** `out` in the accumulator type, or another that the kernel was found for. */
template <class Acc>
using ThinKernel = void (*)(const ThinTile<Acc>& tile, void* out, int64_t out_stride);

template <class Acc, int Vectors, bool DepthMajor, int MostRows, class Out = Acc, int Rows = 1>
inline ThinKernel<Acc> find_thin_kernel(int64_t rows) {
    if constexpr (Rows == MostRows) {
        return multiply_thin<Acc, Rows, Vectors, DepthMajor, Out>;
    } else {
        if (rows == Rows) return multiply_thin<Acc, Rows, Vectors, DepthMajor, Out>;
        return find_thin_kernel<Acc, Vectors, DepthMajor, MostRows, Out, Rows + 1>(rows);
    }
}

/** For rows that are contiguous along depth, and `width` columns: one or two registers. */
template <class Acc, class Out = Acc>
inline ThinKernel<Acc> find_row_kernel(int64_t rows, int64_t width) {
    return width == kTileCols<Acc> ? find_thin_kernel<Acc, kTileVectors, false, kThinTileRows2, Out>(rows)
                                   : find_thin_kernel<Acc, 1, false, kThinTileRows, Out>(rows);
}

template <class Acc>
inline ThinKernel<Acc> find_row_kernel(int64_t rows, int64_t width, int32_t out_dtype) {
    if constexpr (sizeof(Acc) == sizeof(float)) {
        if (out_dtype == MOEK_DTYPE_BF16) return find_row_kernel<Acc, bf16>(rows, width);
        if (out_dtype == MOEK_DTYPE_F16) return find_row_kernel<Acc, f16>(rows, width);
    }
    return find_row_kernel<Acc>(rows, width);
}

/** out += chain, or out = chain; `count` is a multiple of the lanes. */
template <class Acc>
inline void end_chain(const Acc* chain, int64_t count, bool add, Acc* out) {
    using V = Vec<Acc>;
    for (int64_t i = 0; i < count; i += V::kLanes) {
        V::store(out + i, add ? V::add(V::load(out + i), V::load(chain + i)) : V::load(chain + i));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What lies ready in memory
// ---------------------------------------------------------------------------------------------------------------------

/** The elements of an operand can be read where they are; `vectors` of them, `depth` deep. */
template <class Acc>
inline bool is_in_place(const GemmOperand& operand, int64_t vectors, int64_t depth) {
    return operand.data != nullptr && operand.dtype == kAccDtype<Acc> && !operand.hook.apply &&
           operand.split >= (operand.along_depth ? vectors : depth);
}

/** Whole tiles can be written to C by `multiply_thin` itself. */
inline bool is_direct(const GemmResult& c) {
    return c.row_major && !c.hook.apply;
}

// ---------------------------------------------------------------------------------------------------------------------
// Thin columns
// ---------------------------------------------------------------------------------------------------------------------

/** Packs block `index` of the depth, of all columns. */
template <class Acc>
inline void pack_thin_columns(const Gemm& gemm, int64_t index, Acc* block) {
    const int64_t k0 = index * kDepth;
    pack_b(gemm.b, 0, gemm.N, k0, gemm.K - k0 < kDepth ? gemm.K - k0 : kDepth, block);
}

/** Sums over one block of depth from operands that have to be converted on the way, a little at a time: that leaves the
 * processor something to multiply meanwhile. */
template <class Acc>
inline void multiply_converted(const GemmOperand& a, int64_t row0, int64_t rows, int64_t k0, int64_t depth,
                               const Acc* columns, int64_t width, ThinKernel<Acc> multiply, Acc* panel, Acc* out) {
    constexpr int64_t kChunk = 64;
    for (int64_t k = 0, turn = 0; k < depth; k += kChunk, turn ^= 1) {
        const int64_t count = depth - k < kChunk ? depth - k : kChunk;
        Acc* const chunk = panel + turn * (kPanelStride / 2);
        pack_a(a, row0, rows, k0 + k, count, chunk);
        multiply({chunk, kPanelStride, columns + k * width, width, count, 0, k == 0 ? Sums::Store : Sums::Continue, 1},
                 out, width);
    }
}

template <class Acc>
inline void thin_columns_block(const Gemm& gemm, int64_t row0, int64_t rows, void* scratch) {
    const int64_t width = panel_width<Acc>(gemm.N);
    Acc* const panel = static_cast<Acc*>(scratch);
    Acc* const block = panel + kPanelRows * kPanelStride;
    Acc* const sums = block + kDepth * kTaskCols;
    Acc* const chain = sums + kTaskRows * kTileCols<Acc>;
    const GemmResult& c = gemm.c;
    const int64_t depths = ceil_div(gemm.K, kDepth);
    const int64_t depths_at_once = gemm.packed != nullptr ? depths : kTaskCols / width;
    const bool a_in_place = is_in_place<Acc>(gemm.a, gemm.M, gemm.K);
    const bool c_direct =
        is_direct(c) && c.dtype == kAccDtype<Acc> && gemm.N == width && gemm.alpha == 1 && !c.accumulate;
    const int64_t groups = ceil_div(rows, width == kTileCols<Acc> ? kThinTileRows2 : kThinTileRows);
    for (int64_t first = 0; first < depths; first += depths_at_once) {
        const int64_t last = first + depths_at_once < depths ? first + depths_at_once : depths;
        const Acc* columns = static_cast<const Acc*>(gemm.packed);
        if (columns == nullptr) {
            columns = block;
            for (int64_t d = first; d < last; ++d) {
                pack_thin_columns(gemm, d, block + (d - first) * kDepth * width);
            }
        }
        for (int64_t group = 0; group < groups; ++group) {
            const int64_t i0 = part_start(rows, groups, group);
            const int64_t count = part_start(rows, groups, group + 1) - i0;
            const ThinKernel<Acc> multiply = find_row_kernel<Acc>(count, width);
            Acc* const out = c_direct ? static_cast<Acc*>(c.data) + (row0 + i0) * c.stride : sums + i0 * width;
            const int64_t out_stride = c_direct ? c.stride : width;
            for (int64_t d = first; d < last; ++d) {
                const int64_t k0 = d * kDepth;
                const int64_t depth = gemm.K - k0 < kDepth ? gemm.K - k0 : kDepth;
                const Acc* const b = columns + (d - first) * kDepth * width;
                if (a_in_place) {
                    const Acc* const a = static_cast<const Acc*>(operand_at(gemm.a, row0 + i0, k0));
                    multiply({a, gemm.a.stride, b, width, depth, 0, d == 0 ? Sums::Store : Sums::Add, 1}, out,
                             out_stride);
                    continue;
                }
                multiply_converted(gemm.a, row0 + i0, count, k0, depth, b, width, multiply, panel, chain);
                for (int64_t i = 0; i < count; ++i) {
                    end_chain(chain + i * width, width, d > 0, out + i * out_stride);
                }
            }
            if (last == depths && !c_direct) {
                write_tile(c, static_cast<Acc>(gemm.alpha), row0 + i0, count, 0, gemm.N, out, width);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Thin rows
// ---------------------------------------------------------------------------------------------------------------------

/** Columns col0.. of all rows. */
template <class Acc>
inline void thin_rows_block(const Gemm& gemm, int64_t col0, int64_t cols, void* scratch) {
    constexpr int64_t kWidth = kGradientVectors * Vec<Acc>::kLanes;
    Acc* const panel = static_cast<Acc*>(scratch);
    Acc* const block = panel + kPanelRows * kPanelStride;
    Acc* const sums = block + kDepth * kTaskCols;
    Acc* const chain = sums + kMostThinRows * kTaskCols;
    const GemmOperand& a = gemm.a;
    const GemmOperand& b = gemm.b;
    const int64_t M = gemm.M;
    const bool a_in_place = is_in_place<Acc>(a, M, gemm.K);
    const bool b_in_place = is_in_place<Acc>(b, gemm.N, gemm.K) && cols % kWidth == 0;
    // Few enough rows of B that they, or their copy, pass through the first-level cache beside the sums.
    const int64_t rows_at_once = b_in_place ? 32 : 16;
    const int64_t groups = ceil_div(M, kGradientRows);
    const int64_t padded = ceil_div(cols, kWidth) * kWidth;
    for (int64_t k0 = 0; k0 < gemm.K; k0 += kDepth) {
        const int64_t k1 = gemm.K - k0 < kDepth ? gemm.K : k0 + kDepth;
        Acc* const out = k0 == 0 ? sums : chain;
        for (int64_t k = k0; k < k1; k += rows_at_once) {
            const int64_t depth = k1 - k < rows_at_once ? k1 - k : rows_at_once;
            const Acc* left = panel;
            int64_t left_stride = M;
            if (a_in_place) {
                left = static_cast<const Acc*>(operand_at(a, 0, k));
                left_stride = a.stride;
            } else {
                for (int64_t j = 0; j < depth; ++j) load_vector_run(a, 0, M, k + j, panel + j * M);
            }
            const Acc* right = block;
            int64_t right_stride = kTaskCols;
            int64_t ahead = 0;
            if (b_in_place) {
                right = static_cast<const Acc*>(operand_at(b, col0, k));
                right_stride = b.stride;
                ahead = k + 2 * rows_at_once <= gemm.K ? rows_at_once * b.stride : 0;
            } else {
                for (int64_t j = 0; j < depth; ++j) {
                    load_vector_run(b, col0, cols, k + j, block + j * kTaskCols);
                    for (int64_t i = cols; i < padded; ++i) block[j * kTaskCols + i] = 0;
                }
            }
            for (int64_t j = 0; j < padded; j += kWidth) {
                for (int64_t group = 0; group < groups; ++group) {
                    const int64_t i0 = part_start(M, groups, group);
                    const int64_t count = part_start(M, groups, group + 1) - i0;
                    find_thin_kernel<Acc, kGradientVectors, true, kGradientRows>(count)(
                        {left + i0, left_stride, right + j, right_stride, depth, group == 0 ? ahead : 0,
                         k == k0 ? Sums::Store : Sums::Continue, 1},
                        out + i0 * kTaskCols + j, kTaskCols);
                }
            }
        }
        for (int64_t i = 0; k0 > 0 && i < M; ++i) {
            end_chain(chain + i * kTaskCols, padded, true, sums + i * kTaskCols);
        }
    }
    write_tile(gemm.c, static_cast<Acc>(gemm.alpha), 0, M, col0, cols, sums, kTaskCols);
}

// ---------------------------------------------------------------------------------------------------------------------
// Shallow
// ---------------------------------------------------------------------------------------------------------------------

/** B is read where it lies: too few rows would pay for packing it. */
template <class Acc>
inline bool reads_shallow_in_place(const Gemm& gemm) {
    constexpr int64_t kFewRows = 28;
    return gemm.M <= kFewRows && !gemm.b.along_depth && is_in_place<Acc>(gemm.b, gemm.N, gemm.K);
}

/** Packs the kTaskCols columns, or what is left of them, from index kTaskCols on. */
template <class Acc>
inline void pack_shallow(const Gemm& gemm, int64_t index, Acc* block) {
    const int64_t col0 = index * kTaskCols;
    pack_b(gemm.b, col0, gemm.N - col0 < kTaskCols ? gemm.N - col0 : kTaskCols, 0, gemm.K, block);
}

template <class Acc>
inline void shallow_block(const Gemm& gemm, int64_t row0, int64_t rows, int64_t col0, int64_t cols, void* scratch) {
    constexpr int64_t kCols = kTileCols<Acc>;
    Acc* const panel = static_cast<Acc*>(scratch);
    Acc* const block = panel + kPanelRows * kPanelStride;
    Acc* const strip = block + kDepth * kTaskCols;
    const GemmResult& c = gemm.c;
    const int64_t K = gemm.K;
    const bool a_in_place = is_in_place<Acc>(gemm.a, gemm.M, K);
    const bool b_in_place = reads_shallow_in_place<Acc>(gemm);
    const bool c_direct = is_direct(c);
    const Acc alpha = static_cast<Acc>(gemm.alpha);
    const Acc* packed = block;
    if (gemm.packed != nullptr) {
        packed = static_cast<const Acc*>(gemm.packed) + col0 * K;
    } else {
        const int64_t edge = b_in_place ? cols / kCols * kCols : 0;
        if (edge < cols) pack_b(gemm.b, col0 + edge, cols - edge, 0, K, block + edge * K);
    }
    const int64_t groups = ceil_div(rows, b_in_place ? kThinTileRows2 : kShallowTileRows);
    for (int64_t group = 0; group < groups; ++group) {
        const int64_t i0 = part_start(rows, groups, group);
        const int64_t count = part_start(rows, groups, group + 1) - i0;
        const Acc* a = panel;
        int64_t a_stride = kPanelStride;
        if (a_in_place) {
            a = static_cast<const Acc*>(operand_at(gemm.a, row0 + i0, 0));
            a_stride = gemm.a.stride;
        } else {
            pack_a(gemm.a, row0 + i0, count, 0, K, panel);
        }
        const ThinKernel<Acc> multiply = find_row_kernel<Acc>(count, kCols, c.dtype);
        for (int64_t strip0 = 0; strip0 < cols; strip0 += kTaskCols) {
            const int64_t strip_cols = cols - strip0 < kTaskCols ? cols - strip0 : kTaskCols;
            int64_t written = 0;  // of the strip's columns, to C
            for (int64_t j = 0; j < strip_cols; j += kCols) {
                const int64_t left = strip_cols - j;
                const int64_t width = panel_width<Acc>(left);
                const int64_t at = strip0 + j;
                const bool whole = left >= width;
                ThinTile<Acc> tile = {a, a_stride, packed + at * K, width, K, 0, Sums::Store, 1};
                if (b_in_place && width == kCols && whole) {
                    tile.b = static_cast<const Acc*>(operand_at(gemm.b, col0 + at, 0));
                    tile.b_stride = gemm.b.stride;
                }
                if (c_direct && whole) {
                    tile.sums = c.accumulate ? Sums::Add : Sums::Store;
                    tile.alpha = alpha;
                    const ThinKernel<Acc> run = width == kCols ? multiply : find_row_kernel<Acc>(count, width, c.dtype);
                    run(tile, element(c.data, c.dtype, (row0 + i0) * c.stride + col0 + at), c.stride);
                    written = j + width;
                } else {
                    find_row_kernel<Acc>(count, width)(tile, strip + j, kTaskCols);
                }
            }
            if (written < strip_cols) {
                write_tile(c, alpha, row0 + i0, count, col0 + strip0 + written, strip_cols - written, strip + written,
                           kTaskCols);
            }
        }
    }
}

}  // namespace moek::cpu::MOEK_ISA_NAME
