// The f32 results of a product whose depth was split, as the kernel that adds the splits reads them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/gemm/cuda_plan.hpp"
#include "cuda/gemm/chunk.hpp"

namespace moek::cuda {

struct PartialSums {
    const float* data;  // [splits, T, columns]
    int32_t splits;
    int32_t columns;
    int64_t T;
};

// Four neighbouring results of a token, or the last one to three of its row.
struct Four {
    int64_t token;
    int column;
    int valid;
    float value[4];
};

// The runs of four that cover columns first .. first + count - 1 of the block's tile of kBlockRows tokens: visit(Four&) for
// each, neighbouring threads side by side, values added in the order of the splits. Without any splits the values are 0,
// and `data` is only an address.
template <class Visitor>
__device__ __forceinline__ void for_each_four(const PartialSums& sums, int64_t first_token, int first, int count,
                                              Visitor&& visit) {
    // So many are under way at once.
    constexpr int kBatch = 4;
    const int row_fours = (count + 3) / 4;
    const int rows = static_cast<int>(min(static_cast<int64_t>(kBlockRows), sums.T - first_token));
    const bool aligned = sums.columns % 4 == 0 && first % 4 == 0;
    const int64_t split_stride = sums.T * sums.columns;
    for (int start = static_cast<int>(threadIdx.x); start < rows * row_fours; start += kBatch * kProductThreads) {
        Four four[kBatch];
        const float* source[kBatch];
#pragma unroll
        for (int b = 0; b < kBatch; ++b) {
            const int index = start + b * kProductThreads;
            const int row = index / row_fours;
            four[b].token = first_token + row;
            four[b].column = index % row_fours * 4;
            four[b].valid = row < rows ? min(4, count - four[b].column) : 0;
            source[b] = sums.data + four[b].token * sums.columns + first + four[b].column;
#pragma unroll
            for (int i = 0; i < 4; ++i) four[b].value[i] = 0;
        }
#pragma unroll 1
        for (int split = 0; split < sums.splits; ++split) {
            float part[kBatch][4];
#pragma unroll
            for (int b = 0; b < kBatch; ++b) {
                load_values(part[b], source[b] + split * split_stride, four[b].valid, aligned);
            }
#pragma unroll
            for (int b = 0; b < kBatch; ++b) {
#pragma unroll
                for (int i = 0; i < 4; ++i) four[b].value[i] += part[b][i];
            }
        }
#pragma unroll
        for (int b = 0; b < kBatch; ++b) {
            if (four[b].valid > 0) visit(four[b]);
        }
    }
}

}  // namespace moek::cuda
