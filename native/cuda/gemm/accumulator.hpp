// The sums of one block's tile of a product, in registers, for the three ways to multiply.
//
//   Math::kTensorCore   16-bit operands, mma.m16n8k16: products exact, sums in f32
//   Math::kTf32         f32 operands rounded to tf32 (10 fraction bits), mma.m16n8k8
//   Math::kExact        f32 operands, one fused multiply-add after the other in the order of the depth
//
// An accumulator belongs to kProductThreads threads and covers kBlockRows x kBlockColumns results. `multiply` adds one
// pipeline stage, `multiply_part` the first `count` steps of the left tile times as many of the right one from
// `right_depth` on, both multiples of kStep. `for_each` visits the thread's own results as f(row, column, value). A
// result's bits depend on its own row, column and depth only.
//
// A thread's results lie in kOwnRows rows, `own_row(i)`. `combine` visits them together with those of another accumulator
// of the same type, as f(i, value, other). The kRowThreads neighbouring threads that have results in the same rows see
// kBlockColumns / kRowParts columns of them, part `row_part()`.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/gemm/cuda_plan.hpp"
#include "cuda/common/ldmatrix.hpp"
#include "cuda/common/mma.hpp"
#include "cuda/gemm/operand_tile.hpp"

namespace moek::cuda {

enum class Math { kTensorCore, kTf32, kExact };

// How eight warps share a tile that is kBlockColumns wide.
template <int kBlockColumns>
struct WarpGrid {
    static_assert(kBlockColumns == 32 || kBlockColumns == 64 || kBlockColumns == 128);
    static constexpr int kAcross = kBlockColumns == 32 ? 1 : 2;
    static constexpr int kDown = kProductThreads / 32 / kAcross;
    static constexpr int kRows = kBlockRows / kDown;          // of one warp
    static constexpr int kColumns = kBlockColumns / kAcross;  // of one warp

    static __device__ __forceinline__ int first_row() { return static_cast<int>(threadIdx.x) / 32 / kAcross * kRows; }
    static __device__ __forceinline__ int first_column() {
        return static_cast<int>(threadIdx.x) / 32 % kAcross * kColumns;
    }
};

// What the two kinds of tensor-core product share: sums in the layout of mma's d, see cuda/common/mma.hpp.
template <int kBlockColumns>
class MmaAccumulator {
  public:
    template <class Visitor>
    __device__ __forceinline__ void for_each(Visitor&& visit) {
        const int lane = static_cast<int>(threadIdx.x) % 32;
        const int row = Grid::first_row() + lane / 4;
        const int column = Grid::first_column() + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < kTilesDown; ++i) {
#pragma unroll
            for (int j = 0; j < kTilesAcross; ++j) {
#pragma unroll
                for (int e = 0; e < 4; ++e) visit(row + 16 * i + e / 2 * 8, column + 8 * j + e % 2, sum_[i][j][e]);
            }
        }
    }

    __device__ __forceinline__ void clear() {
        for_each([](int, int, float& sum) { sum = 0; });
    }

    static constexpr int kOwnRows = WarpGrid<kBlockColumns>::kRows / 8;
    static constexpr int kRowThreads = 4;
    static constexpr int kRowParts = WarpGrid<kBlockColumns>::kAcross;

    static __device__ __forceinline__ int own_row(int i) {
        return Grid::first_row() + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * i;
    }
    static __device__ __forceinline__ int row_part() {
        return static_cast<int>(threadIdx.x) / 32 % kRowParts;
    }

    template <class Visitor>
    __device__ __forceinline__ void combine(const MmaAccumulator& other, Visitor&& visit) {
#pragma unroll
        for (int i = 0; i < kTilesDown; ++i) {
#pragma unroll
            for (int j = 0; j < kTilesAcross; ++j) {
#pragma unroll
                for (int e = 0; e < 4; ++e) visit(2 * i + e / 2, sum_[i][j][e], other.sum_[i][j][e]);
            }
        }
    }

  protected:
    using Grid = WarpGrid<kBlockColumns>;
    static constexpr int kTilesDown = Grid::kRows / 16;
    static constexpr int kTilesAcross = Grid::kColumns / 8;

    float sum_[kTilesDown][kTilesAcross][4];
};

template <Math kMath, class Left, class Right>
class Accumulator;

template <class Left, class Right>
class Accumulator<Math::kTensorCore, Left, Right> : public MmaAccumulator<Right::kRows> {
  public:
    static constexpr int kStep = 16;

    template <class Operand>
    __device__ __forceinline__ void multiply(const unsigned char* left, const unsigned char* right) {
        multiply_part<Operand>(left, right, 0, Left::kDepth);
    }

    template <class Operand>
    __device__ __forceinline__ void multiply_part(const unsigned char* left, const unsigned char* right,
                                                  int right_depth, int count) {
        const int lane = static_cast<int>(threadIdx.x) % 32;
        // With 64 sums a thread has no registers left for the addresses of a whole stage.
#pragma unroll(Base::kTilesAcross == 8 ? 1 : 4)
        for (int depth = 0; depth < count; depth += kStep) {
            uint32_t a[Base::kTilesDown][4];
#pragma unroll
            for (int i = 0; i < Base::kTilesDown; ++i) load_left(a[i], left, Grid::first_row() + 16 * i, depth, lane);
#pragma unroll
            for (int j = 0; j < Base::kTilesAcross; j += 2) {
                uint32_t b[4];  // of two neighbouring tiles of 8 columns
                load_right(b, right, Grid::first_column() + 8 * j, right_depth + depth, lane);
                const uint32_t first[2] = {b[0], b[1]};
                const uint32_t second[2] = {b[2], b[3]};
#pragma unroll
                for (int i = 0; i < Base::kTilesDown; ++i) {
                    mma_m16n8k16<Operand>(Base::sum_[i][j], a[i], first);
                    mma_m16n8k16<Operand>(Base::sum_[i][j + 1], a[i], second);
                }
            }
        }
    }

  private:
    using Base = MmaAccumulator<Right::kRows>;
    using Grid = WarpGrid<Right::kRows>;

    // The four 8 x 8 quarters of A's fragment in mma's order: the lower rows come second, the later half of the depth third.
    static __device__ __forceinline__ void load_left(uint32_t (&a)[4], const unsigned char* tile, int row, int depth,
                                                     int lane) {
        if constexpr (Left::kAlong == Along::kDepth) {
            ldmatrix_x4(a, tile + Left::element_offset(row + lane % 16, depth + lane / 16 * 8));
        } else {
            ldmatrix_x4_trans(a, tile + Left::element_offset(row + lane / 8 % 2 * 8, depth + lane / 16 * 8 + lane % 8));
        }
    }

    // Two fragments of B: the halves of the depth for the first 8 columns, then for the next 8.
    static __device__ __forceinline__ void load_right(uint32_t (&b)[4], const unsigned char* tile, int column,
                                                      int depth, int lane) {
        if constexpr (Right::kAlong == Along::kDepth) {
            ldmatrix_x4(b, tile + Right::element_offset(column + lane / 16 * 8 + lane % 8, depth + lane / 8 % 2 * 8));
        } else {
            ldmatrix_x4_trans(
                b, tile + Right::element_offset(column + lane / 16 * 8, depth + lane / 8 % 2 * 8 + lane % 8));
        }
    }
};

template <class Left, class Right>
class Accumulator<Math::kTf32, Left, Right> : public MmaAccumulator<Right::kRows> {
  public:
    static constexpr int kStep = 8;

    template <class Operand>
    __device__ __forceinline__ void multiply(const unsigned char* left, const unsigned char* right) {
        multiply_part<Operand>(left, right, 0, Left::kDepth);
    }

    template <class Operand>
    __device__ __forceinline__ void multiply_part(const unsigned char* left, const unsigned char* right,
                                                  int right_depth, int count) {
        const int group = static_cast<int>(threadIdx.x) % 32 / 4;
        const int member = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
        for (int depth = 0; depth < count; depth += kStep) {
            uint32_t a[Base::kTilesDown][4];
#pragma unroll
            for (int i = 0; i < Base::kTilesDown; ++i) {
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    a[i][e] =
                        load<Left>(left, Grid::first_row() + 16 * i + group + e % 2 * 8, depth + member + e / 2 * 4);
                }
            }
#pragma unroll
            for (int j = 0; j < Base::kTilesAcross; ++j) {
                const int column = Grid::first_column() + 8 * j + group;
                const uint32_t b[2] = {load<Right>(right, column, right_depth + depth + member),
                                       load<Right>(right, column, right_depth + depth + member + 4)};
#pragma unroll
                for (int i = 0; i < Base::kTilesDown; ++i) mma_m16n8k8_tf32(Base::sum_[i][j], a[i], b);
            }
        }
    }

  private:
    using Base = MmaAccumulator<Right::kRows>;
    using Grid = WarpGrid<Right::kRows>;

    template <class Tile>
    static __device__ __forceinline__ uint32_t load(const unsigned char* tile, int row, int depth) {
        return to_tf32(*reinterpret_cast<const float*>(tile + Tile::element_offset(row, depth)));
    }
};

// 16 x 16 threads with 8 rows and kBlockColumns / 16 columns each. Which ones follows from the operand's order, so that
// a thread reads whole chunks: four steps of the depth of one row, or one step of four neighbouring rows.
template <class Left, class Right>
class Accumulator<Math::kExact, Left, Right> {
  public:
    template <class Visitor>
    __device__ __forceinline__ void for_each(Visitor&& visit) {
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
#pragma unroll
            for (int j = 0; j < kColumns; ++j) visit(row(i), column(j), sum_[i][j]);
        }
    }

    __device__ __forceinline__ void clear() {
        for_each([](int, int, float& sum) { sum = 0; });
    }

    static constexpr int kStep = 4;
    static constexpr int kOwnRows = kBlockRows / 16;
    static constexpr int kRowThreads = 16;
    static constexpr int kRowParts = 1;

    static __device__ __forceinline__ int own_row(int i) {
        return row(i);
    }
    static __device__ __forceinline__ int row_part() {
        return 0;
    }

    template <class Visitor>
    __device__ __forceinline__ void combine(const Accumulator& other, Visitor&& visit) {
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
#pragma unroll
            for (int j = 0; j < kColumns; ++j) visit(i, sum_[i][j], other.sum_[i][j]);
        }
    }

    template <class Operand>
    __device__ __forceinline__ void multiply(const unsigned char* left, const unsigned char* right) {
        multiply_part<Operand>(left, right, 0, Left::kDepth);
    }

    template <class Operand>
    __device__ __forceinline__ void multiply_part(const unsigned char* left, const unsigned char* right,
                                                  int right_depth, int count) {
        // Unrolled by two at the most: more only fills the instruction cache.
#pragma unroll 2
        for (int depth = 0; depth < count; depth += kStep) {
            float b[kColumns][4];
            load_columns(b, right, right_depth + depth);
#pragma unroll
            for (int i = 0; i < kRows; i += 4) {
                float a[4][4];
                load_rows(a, left, i, depth);
#pragma unroll
                for (int step = 0; step < 4; ++step) {
#pragma unroll
                    for (int q = 0; q < 4; ++q) {
#pragma unroll
                        for (int j = 0; j < kColumns; ++j) {
                            sum_[i + q][j] = fmaf(a[q][step], b[j][step], sum_[i + q][j]);
                        }
                    }
                }
            }
        }
    }

  private:
    static constexpr int kRows = kBlockRows / 16;
    static constexpr int kColumns = Right::kRows / 16;
    static constexpr int kRun = kColumns < 4 ? kColumns : 4;  // neighbouring columns of a thread, along rows

    static __device__ __forceinline__ int down() {
        return static_cast<int>(threadIdx.x) / 16;
    }
    static __device__ __forceinline__ int across() {
        return static_cast<int>(threadIdx.x) % 16;
    }
    static __device__ __forceinline__ int row(int i) {
        return Left::kAlong == Along::kDepth ? down() + 16 * i : 4 * down() + i % 4 + i / 4 * 64;
    }
    static __device__ __forceinline__ int column(int j) {
        return Right::kAlong == Along::kDepth ? across() + 16 * j : kRun * across() + j % kRun + j / kRun * 16 * kRun;
    }

    static __device__ __forceinline__ float4 chunk(const unsigned char* tile, int offset) {
        return *reinterpret_cast<const float4*>(tile + offset);
    }

    static __device__ __forceinline__ void load_rows(float (&a)[4][4], const unsigned char* tile, int i, int depth) {
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            if constexpr (Left::kAlong == Along::kDepth) {
                const float4 steps = chunk(tile, Left::element_offset(row(i + q), depth));
                a[q][0] = steps.x, a[q][1] = steps.y, a[q][2] = steps.z, a[q][3] = steps.w;
            } else {
                const float4 rows = chunk(tile, Left::element_offset(row(i), depth + q));
                a[0][q] = rows.x, a[1][q] = rows.y, a[2][q] = rows.z, a[3][q] = rows.w;
            }
        }
    }

    static __device__ __forceinline__ void load_columns(float (&b)[kColumns][4], const unsigned char* tile, int depth) {
        if constexpr (Right::kAlong == Along::kDepth) {
#pragma unroll
            for (int j = 0; j < kColumns; ++j) {
                const float4 steps = chunk(tile, Right::element_offset(column(j), depth));
                b[j][0] = steps.x, b[j][1] = steps.y, b[j][2] = steps.z, b[j][3] = steps.w;
            }
        } else {
#pragma unroll
            for (int step = 0; step < 4; ++step) {
#pragma unroll
                for (int j = 0; j < kColumns; j += kRun) {
                    const unsigned char* place = tile + Right::element_offset(column(j), depth + step);
                    if constexpr (kRun == 4) {
                        const float4 columns = *reinterpret_cast<const float4*>(place);
                        b[j][step] = columns.x, b[j + 1][step] = columns.y;
                        b[j + 2][step] = columns.z, b[j + 3][step] = columns.w;
                    } else {
                        const float2 columns = *reinterpret_cast<const float2*>(place);
                        b[j][step] = columns.x, b[j + 1][step] = columns.y;
                    }
                }
            }
        }
    }

    float sum_[kRows][kColumns];
};

}  // namespace moek::cuda
