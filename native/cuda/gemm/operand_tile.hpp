// One operand's part of a pipeline stage in shared memory: kRows rows of the result's side by kDepth steps of the sum.
//
// The tile keeps the order of global memory: its lines are the contiguous runs of the matrix, which lie along the depth
// (a row's elements) or along the rows (one step of the sum for all rows). So every 16-byte chunk can be copied as it is,
// and what has to be turned around is turned around by ldmatrix.
//
// The chunks of a line are permuted by an exclusive or with the line's number: the chunks that a warp reads at once lie in
// different banks, without padding that would cost a stage of the pipeline.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/gemm/cuda_plan.hpp"

namespace moek::cuda {

// Which index runs over neighbouring elements.
enum class Along { kDepth, kRows };

// A stage is 64 steps of the sum deep with 16-bit elements, 32 with floats.
template <class Operand, int kRowCount, Along kAlongWhat>
struct OperandTile {
    static constexpr Along kAlong = kAlongWhat;
    static constexpr int kRows = kRowCount;
    static constexpr int kDepth = kStageRowBytes / static_cast<int>(sizeof(Operand));
    static constexpr int kChunk = 16 / static_cast<int>(sizeof(Operand));  // elements
    static constexpr int kLines = kAlong == Along::kDepth ? kRows : kDepth;
    static constexpr int kLineElements = kAlong == Along::kDepth ? kDepth : kRows;
    static constexpr int kLineChunks = kLineElements / kChunk;
    static constexpr int kBytes = kRows * kStageRowBytes;

    // Where a chunk lies, in bytes from the start of the tile.
    static __device__ __forceinline__ int chunk_offset(int line, int chunk) {
        int place = chunk;
        if constexpr (kAlong == Along::kRows && sizeof(Operand) == 4) {
            // A tf32 fragment reads two neighbouring chunks of four lines.
            place ^= 2 * (line & 3);
        } else if constexpr (kLineChunks >= 8) {
            place ^= line & 7;
        } else {
            // Two lines of four chunks share the 128 bytes of all banks.
            place ^= (line >> 1) & 3;
        }
        return (line * kLineChunks + place) * 16;
    }

    // The chunk that holds the element, and every element behind it up to the chunk's end.
    static __device__ __forceinline__ int element_offset(int row, int depth) {
        const int line = kAlong == Along::kDepth ? row : depth;
        const int element = kAlong == Along::kDepth ? depth : row;
        return chunk_offset(line, element / kChunk) + element % kChunk * static_cast<int>(sizeof(Operand));
    }
};

}  // namespace moek::cuda
