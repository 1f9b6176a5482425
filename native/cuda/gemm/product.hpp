// The main loop that every product of this library shares: one block computes a tile of kBlockRows x kBlockColumns results,
//
//     sum[row, column] += sum over depth of left[row, depth] right[column, depth]
//
// while asynchronous copies bring the stages to come. kStages - 1 = 2 stages are in flight: with two blocks on a
// multiprocessor and a tile of 128 columns that is 128 KiB, several times what the latency of HBM asks for. Three stages
// fit twice into a multiprocessor of 8.0 and 9.0, and once into the 99 KiB of 8.6 and 8.9.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/cp_async.hpp"
#include "cuda/gemm/accumulator.hpp"
#include "cuda/gemm/operand_tile.hpp"
#include "cuda/gemm/source.hpp"

namespace moek::cuda {

template <Math kMathKind, class OperandType, Along kLeftAlong, Along kRightAlong, int kColumns>
struct Product {
    static constexpr Math kMath = kMathKind;
    using Operand = OperandType;
    using Left = OperandTile<Operand, kBlockRows, kLeftAlong>;
    using Right = OperandTile<Operand, kColumns, kRightAlong>;
    using Sums = Accumulator<kMath, Left, Right>;
    static constexpr int kBlockColumns = kColumns;
    static constexpr int kBlockDepth = Left::kDepth;
    static constexpr int kStageBytes = Left::kBytes + Right::kBytes;
    // What the kernels are compiled for. Floats take more registers for operands than two wide blocks leave.
    static constexpr int kResidentBlocks = kMath == Math::kTensorCore || kColumns < 128 ? 2 : 1;
    static constexpr int kSharedBytes = kStages * kStageBytes;
};

// Brings the stage of the left operand for the results from `row` on and the steps from `depth` on into shared memory.
template <class P, class Source>
__device__ __forceinline__ void load_left(unsigned char* place, const Source& left, int64_t row, int64_t depth) {
    if constexpr (P::Left::kAlong == Along::kDepth) {
        load_tile<typename P::Operand, typename P::Left, kProductThreads>(place, left, row, static_cast<int>(depth));
    } else {
        load_tile<typename P::Operand, typename P::Left, kProductThreads>(place, left, depth, static_cast<int>(row));
    }
}

// The same for the right one and the results from `column` on.
template <class P, class Source>
__device__ __forceinline__ void load_right(unsigned char* place, const Source& right, int column, int64_t depth) {
    if constexpr (P::Right::kAlong == Along::kDepth) {
        load_tile<typename P::Operand, typename P::Right, kProductThreads>(place, right, column,
                                                                           static_cast<int>(depth));
    } else {
        load_tile<typename P::Operand, typename P::Right, kProductThreads>(place, right, depth, column);
    }
}

// Adds the steps [depth, depth_end) of the sum for the results from (row, column) on. `depth` is a multiple of kBlockDepth
// away from where the sources' chunks start; the sources end by themselves. `shared` holds kSharedBytes; it is free for
// other uses, by all threads, before and after.
template <class P, class LeftSource, class RightSource>
__device__ __forceinline__ void accumulate_product(typename P::Sums& sums, const LeftSource& left, int64_t row,
                                                   const RightSource& right, int column, int64_t depth,
                                                   int64_t depth_end, unsigned char* shared) {
    const auto load_stage = [&](int stage, int64_t at) {
        unsigned char* const place = shared + stage * P::kStageBytes;
        load_left<P>(place, left, row, at);
        load_right<P>(place + P::Left::kBytes, right, column, at);
    };

    int64_t next = depth;
#pragma unroll 1
    for (int stage = 0; stage < kStages - 1; ++stage) {
        if (next < depth_end) load_stage(stage, next);
        next += P::kBlockDepth;
        cp_async_commit();
    }
    int stage = 0;
    for (; depth < depth_end; depth += P::kBlockDepth) {
        // The oldest stage has arrived, for everyone; and everyone is done with the stage that is filled next.
        cp_async_wait<kStages - 2>();
        __syncthreads();
        if (next < depth_end) load_stage(stage == 0 ? kStages - 1 : stage - 1, next);
        next += P::kBlockDepth;
        cp_async_commit();
        const unsigned char* const place = shared + stage * P::kStageBytes;
        sums.template multiply<typename P::Operand>(place, place + P::Left::kBytes);
        stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    cp_async_wait<0>();
    __syncthreads();
}

}  // namespace moek::cuda
