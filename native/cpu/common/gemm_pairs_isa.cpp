// gemm_pairs.hpp's products: the blocking of gemm_kernel.hpp with pairs of steps where that has steps.
#include "cpu/common/gemm_pairs.hpp"
#include "cpu/common/gemm_write.hpp"
#include "cpu/common/pair_lanes.hpp"

namespace moek::cpu::MOEK_ISA_NAME {
namespace {

constexpr int64_t kColumns = kTileCols<float>;
constexpr int64_t kBlockPairs = kDepth / 2;
// Not a power of two, as kPanelStride.
constexpr int64_t kPairStride = kBlockPairs + 8;

int64_t pairs_of(int64_t depth) {
    return (depth + 1) / 2;
}

// The pairs k0.. of a vector that lies along the depth. Behind an odd end stands a zero.
void load_pairs(const GemmOperand& operand, int64_t vector, int64_t k0, int64_t depth, float* pairs) {
    const auto* const from = static_cast<const unsigned char*>(operand_at(operand, vector, k0));
    if (depth % 2 != 0) pairs[depth / 2] = 0;
    std::memcpy(pairs, from, static_cast<size_t>(depth) * sizeof(bf16));
}

// Columns that lie along the depth, as a panel [pairs, width] padded with zeros.
void pack_columns(const GemmOperand& b, int64_t col0, int64_t count, int64_t k0, int64_t depth, float* panel,
                  int64_t width) {
    constexpr int64_t kLanes = VecF32::kLanes;
    const int64_t pairs = pairs_of(depth);
    float rows[size_t{VecF32::kLanes * kPairStride}];
    for (int64_t j0 = 0; j0 < width; j0 += kLanes) {
        for (int64_t j = 0; j < kLanes; ++j) {
            float* const row = rows + j * kPairStride;
            if (j0 + j < count) {
                load_pairs(b, col0 + j0 + j, k0, depth, row);
            } else {
                std::memset(row, 0, static_cast<size_t>(pairs) * sizeof(float));
            }
        }
        int64_t p = 0;
        for (; p + kLanes <= pairs; p += kLanes) {
            VecF32::transpose(rows + p, kPairStride, panel + p * width + j0, width);
        }
        for (; p < pairs; ++p) {
            for (int64_t j = 0; j < kLanes; ++j) {
                std::memcpy(panel + p * width + j0 + j, rows + j * kPairStride + p, sizeof(float));
            }
        }
    }
}

// The same where the elements of a step lie beside each other.
void pack_steps(const GemmOperand& b, int64_t col0, int64_t count, int64_t k0, int64_t depth, float* panel,
                int64_t width) {
    uint16_t pair[size_t{2} * kColumns];
    uint16_t step[size_t{2}][size_t{kColumns}] = {};
    for (int64_t p = 0; p < pairs_of(depth); ++p) {
        const bool whole = 2 * p + 1 < depth;
        const auto bytes = static_cast<size_t>(count) * sizeof(bf16);
        std::memcpy(step[0], operand_at(b, col0, k0 + 2 * p), bytes);
        if (whole) {
            std::memcpy(step[1], operand_at(b, col0, k0 + 2 * p + 1), bytes);
        } else {
            std::memset(step[1], 0, sizeof step[1]);
        }
        for (int64_t j = 0; j < width; ++j) {
            pair[2 * j] = step[0][j];
            pair[2 * j + 1] = step[1][j];
        }
        std::memcpy(panel + p * width, pair, static_cast<size_t>(width) * sizeof(float));
    }
}

void pack_panel(const GemmOperand& b, int64_t col0, int64_t count, int64_t k0, int64_t depth, float* panel,
                int64_t width) {
    b.along_depth ? pack_columns(b, col0, count, k0, depth, panel, width)
                  : pack_steps(b, col0, count, k0, depth, panel, width);
}

// out [Rows, Vectors * lanes] (+)= the pairs of a panel of A times a panel of B.
template <int Rows, int Vectors>
void multiply_panels(const float* a, const float* b, int64_t pairs, bool add, float* out, int64_t out_stride) {
    using V = VecF32;
    V::Reg sum[size_t{Rows}][size_t{Vectors}];
    MOEK_UNROLL
    for (int i = 0; i < Rows; ++i) {
        MOEK_UNROLL
        for (int v = 0; v < Vectors; ++v) sum[i][v] = V::zero();
    }
    for (int64_t p = 0; p < pairs; ++p) {
        V::Reg column[size_t{Vectors}];
        MOEK_UNROLL
        for (int v = 0; v < Vectors; ++v) column[v] = V::load(b + v * V::kLanes);
        MOEK_UNROLL
        for (int i = 0; i < Rows; ++i) {
            const V::Reg row = V::set1(a[i * kPairStride]);
            MOEK_UNROLL
            for (int v = 0; v < Vectors; ++v) sum[i][v] = multiply_add_pairs(row, column[v], sum[i][v]);
        }
        ++a;
        b += Vectors * V::kLanes;
    }
    MOEK_UNROLL
    for (int i = 0; i < Rows; ++i) {
        MOEK_UNROLL
        for (int v = 0; v < Vectors; ++v) {
            float* const target = out + i * out_stride + v * V::kLanes;
            V::store(target, add ? V::add(V::load(target), sum[i][v]) : sum[i][v]);
        }
    }
}

using PanelKernel = void (*)(const float* a, const float* b, int64_t pairs, bool add, float* out, int64_t out_stride);

template <int Vectors, int Rows = 1>
PanelKernel find_kernel(int64_t rows) {
    if constexpr (Rows == kTileRows) {
        return multiply_panels<Rows, Vectors>;
    } else {
        return rows == Rows ? multiply_panels<Rows, Vectors> : find_kernel<Vectors, Rows + 1>(rows);
    }
}

// Rows row0.. and columns col0.. of C.
void pairs_block(const Gemm& gemm, int64_t row0, int64_t rows, int64_t col0, int64_t cols, void* scratch) {
    float* const panel = static_cast<float*>(scratch);
    float* const block = panel + kPanelRows * kPanelStride;
    float* const sums = block + kDepth * kTaskCols;
    const GemmResult& c = gemm.c;
    const int64_t panels = ceil_div(rows, kTileRows);
    const int64_t col_panels = ceil_div(cols, kColumns);
    const int64_t depths = ceil_div(gemm.K, kDepth);
    const bool c_in_place =
        c.row_major && c.dtype == MOEK_DTYPE_F32 && !c.hook.apply && gemm.alpha == 1 && (depths == 1 || !c.accumulate);
    for (int64_t d = 0; d < depths; ++d) {
        const int64_t k0 = d * kDepth;
        const int64_t depth = gemm.K - k0 < kDepth ? gemm.K - k0 : kDepth;
        const int64_t pairs = pairs_of(depth);
        const bool last = d + 1 == depths;
        for (int64_t j0 = 0; j0 < cols; j0 += kColumns) {
            const int64_t count = cols - j0 < kColumns ? cols - j0 : kColumns;
            pack_panel(gemm.b, col0 + j0, count, k0, depth, block + j0 * pairs, panel_width<float>(count));
        }
        for (int64_t p = 0; p < panels; ++p) {
            const int64_t i0 = part_start(rows, panels, p);
            const int64_t i1 = part_start(rows, panels, p + 1);
            for (int64_t i = i0; i < i1; ++i) load_pairs(gemm.a, row0 + i, k0, depth, panel + (i - i0) * kPairStride);
            for (int64_t q = 0; q < col_panels; ++q) {
                const int64_t j0 = q * kColumns;
                const int64_t count = cols - j0 < kColumns ? cols - j0 : kColumns;
                const int64_t width = panel_width<float>(count);
                const float* const columns = block + j0 * pairs;
                const PanelKernel multiply =
                    width == kColumns ? find_kernel<kTileVectors>(i1 - i0) : find_kernel<1>(i1 - i0);
                if (c_in_place && count == width) {
                    float* const out = static_cast<float*>(c.data) + (row0 + i0) * c.stride + col0 + j0;
                    multiply(panel, columns, pairs, d > 0 || c.accumulate, out, c.stride);
                    continue;
                }
                float* const tile = sums + (depths == 1 ? 0 : (p * col_panels + q) * (kTileRows * kColumns));
                multiply(panel, columns, pairs, d > 0, tile, width);
                if (last) {
                    write_tile(c, static_cast<float>(gemm.alpha), row0 + i0, i1 - i0, col0 + j0, count, tile, width);
                }
            }
        }
    }
}

GemmPlan plan_pairs(const Gemm& gemm) {
    GemmPlan plan;
    // Few rows of A would leave most of a panel of B, which costs a transposition, to one tile.
    plan.swapped = gemm.b.along_depth && gemm.M <= kColumns && gemm.M < gemm.N;
    plan.task_rows = kTaskRows;
    plan.task_cols = kTaskCols;
    plan.row_tasks = ceil_div(plan.swapped ? gemm.N : gemm.M, kTaskRows);
    plan.col_tasks = ceil_div(plan.swapped ? gemm.M : gemm.N, kTaskCols);
    return plan;
}

void pairs_task(const Gemm& given, const GemmPlan& plan, int64_t task, void* scratch) {
    const Gemm gemm = plan.swapped ? swap_operands(given) : given;
    const int64_t row = task / plan.col_tasks;
    const int64_t row0 = part_start(gemm.M, plan.row_tasks, row);
    const int64_t rows = part_start(gemm.M, plan.row_tasks, row + 1) - row0;
    const int64_t col0 = task % plan.col_tasks * plan.task_cols;
    const int64_t cols = gemm.N - col0 < plan.task_cols ? gemm.N - col0 : plan.task_cols;
    pairs_block(gemm, row0, rows, col0, cols, scratch);
}

}  // namespace

GemmFunctions gemm_pairs_functions() {
    return {plan_pairs, nullptr, pairs_task};
}

}  // namespace moek::cpu::MOEK_ISA_NAME
