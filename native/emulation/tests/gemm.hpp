// A small bf16 product with everything that the real ones use: cp.async into two buffers in turn, ldmatrix, mma, and edges in
// every dimension. `Bug` leaves out one of the things that make it right.
#pragma once

#include <cstdint>

#include "cuda/common/cp_async.hpp"
#include "cuda/common/element.hpp"
#include "cuda/common/ldmatrix.hpp"
#include "cuda/common/mma.hpp"
#include "cuda/common/shared_memory.hpp"

namespace moek::emulation::test {

enum class GemmBug { kNone, kNoWait, kNoBarrierAfterLoad, kNoBarrierBeforeReuse };

constexpr int kTile = 64;   // rows and columns of C that a block makes
constexpr int kDepth = 32;  // of a step
constexpr int kPitch = 40;  // elements between rows in shared memory: no two of eight rows share banks
constexpr int kGemmThreads = 128;
constexpr size_t kGemmShared = 4 * kTile * kPitch * sizeof(uint16_t);

// A tile of 64 x 32 of a matrix with `rows` rows and k columns.
inline __device__ void load_tile(cuda::bfloat16* tile, const cuda::bfloat16* matrix, int row0, int rows, int k0,
                                 int k) {
    for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth / 8; i += kGemmThreads) {
        const int row = i / (kDepth / 8);
        const int column = i % (kDepth / 8) * 8;
        const bool inside = row0 + row < rows && k0 + column < k;
        const int valid = !inside ? 0 : k - (k0 + column) < 8 ? k - (k0 + column) : 8;
        const cuda::bfloat16* source =
            matrix + static_cast<int64_t>(inside ? row0 + row : 0) * k + (inside ? k0 + column : 0);
        cuda::cp_async<16>(tile + row * kPitch + column, source, valid * 2);
    }
}

// C[m, n] = A[m, k] B[n, k]^T, rows of A and B 16-byte aligned (k a multiple of 8).
template <GemmBug kBug>
__global__ void __launch_bounds__(kGemmThreads)
    gemm(const cuda::bfloat16* a, const cuda::bfloat16* b, float* c, int m, int n, int k) {
    MOEK_DYNAMIC_SHARED(cuda::bfloat16, shared);
    cuda::bfloat16* const tiles_a = shared;
    cuda::bfloat16* const tiles_b = shared + 2 * kTile * kPitch;
    const int row0 = static_cast<int>(blockIdx.y) * kTile;
    const int column0 = static_cast<int>(blockIdx.x) * kTile;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int warp_row = warp / 2 * 32;
    const int warp_column = warp % 2 * 32;

    float sums[2][4][4] = {};
    load_tile(tiles_a, a, row0, m, 0, k);
    load_tile(tiles_b, b, column0, n, 0, k);
    cuda::cp_async_commit();
    const int steps = (k + kDepth - 1) / kDepth;
    for (int step = 0; step < steps; ++step) {
        const int current = (step & 1) * kTile * kPitch;
        const int next = kTile * kPitch - current;
        if (step + 1 < steps) {
            load_tile(tiles_a + next, a, row0, m, (step + 1) * kDepth, k);
            load_tile(tiles_b + next, b, column0, n, (step + 1) * kDepth, k);
        }
        cuda::cp_async_commit();
        if (kBug != GemmBug::kNoWait) cuda::cp_async_wait<1>();
        if (kBug != GemmBug::kNoBarrierAfterLoad) __syncthreads();
        for (int depth = 0; depth < kDepth; depth += 16) {
            uint32_t rows[2][4];
            uint32_t columns[2][4];
            for (int i = 0; i < 2; ++i) {
                cuda::ldmatrix_x4(rows[i],
                                  tiles_a + current + (warp_row + i * 16 + lane % 16) * kPitch + depth + lane / 16 * 8);
                cuda::ldmatrix_x4(columns[i], tiles_b + current +
                                                  (warp_column + i * 16 + lane / 16 * 8 + lane % 8) * kPitch + depth +
                                                  lane / 8 % 2 * 8);
            }
            for (int i = 0; i < 2; ++i) {
                for (int j = 0; j < 4; ++j) {
                    const uint32_t pair[2] = {columns[j / 2][j % 2 * 2], columns[j / 2][j % 2 * 2 + 1]};
                    cuda::mma_m16n8k16<cuda::bfloat16>(sums[i][j], rows[i], pair);
                }
            }
        }
        // The buffer is filled again in the next step.
        if (kBug != GemmBug::kNoBarrierBeforeReuse) __syncthreads();
    }
    cuda::cp_async_wait<0>();
    for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 4; ++j) {
            for (int e = 0; e < 4; ++e) {
                const int row = row0 + warp_row + i * 16 + lane / 4 + e / 2 * 8;
                const int column = column0 + warp_column + j * 8 + lane % 4 * 2 + e % 2;
                if (row < m && column < n) c[static_cast<int64_t>(row) * n + column] = sums[i][j][e];
            }
        }
    }
}

}  // namespace moek::emulation::test
