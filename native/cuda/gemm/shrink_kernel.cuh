// P[s][t, c] = sum over the depth of split s of X[t, k] W[c, k], in f32.
//
// Layouts     X [T, depth] with neighbouring elements along the depth, W [columns, depth] or [depth, columns], P
//             [splits, T, columns]. Up to two parts with tokens and weights of their own share a launch; a part's weights
//             may be two matrices, one below the other, so that x is read once for A and the router.
// Owner       Block (x, y, z) alone writes the results of tokens 128 x .. 128 x + 127 and of its part's columns in split z.
// Bytes       X once per column tile of its part, W once per 128 tokens (out of L2), 4 splits T columns for P. Minimum: X
//             once, W once.
// Order       An element is one chain of sums over its split's depth (mma's inner order, or one step after the other), and
//             the reader adds the splits in order: nothing depends on which block runs when.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.hpp"
#include "cuda/gemm/dispatch.hpp"
#include "cuda/gemm/make_source.hpp"
#include "cuda/gemm/product.hpp"
#include "cuda/gemm/shrink.hpp"
#include "cuda/gemm/staging.hpp"

namespace moek::cuda {

template <class Token, class Weight>
struct ShrinkPartParameters {
    TokenSource<Token> tokens;
    WeightSource<Weight> weights;
    int32_t columns;
    int32_t first_column;  // of P
    int32_t first_tile;
};

template <class Token, class Weight>
struct ShrinkParameters {
    ShrinkPartParameters<Token, Weight> part[2];
    int64_t T;
    int64_t split_depth;
    int32_t depth;
    int32_t columns;
    float* partials;
    int32_t* clear;
    int32_t clear_count;
};

// Writes a block's sums to the split's part of P: `columns` of them from `column` of P on.
template <class P, class Parameters>
__device__ __forceinline__ void write_partials(const Parameters& call, typename P::Sums& sums, int64_t first_token,
                                               int first_column, int columns, unsigned char* shared) {
    using Staged = Staging<P, 4>;
    const float* const staged = Staged::put(sums, shared);
    const int rows = static_cast<int>(min(static_cast<int64_t>(kBlockRows), call.T - first_token));
    float* const target =
        call.partials + (static_cast<int64_t>(blockIdx.z) * call.T + first_token) * call.columns + first_column;
    const int column = static_cast<int>(threadIdx.x) % 32;
    for (int row = static_cast<int>(threadIdx.x) / 32; row < rows; row += kProductThreads / 32) {
#pragma unroll
        for (int c = 0; c < P::kBlockColumns; c += 32) {
            if (c + column < columns) {
                target[static_cast<int64_t>(row) * call.columns + c + column] =
                    staged[row * Staged::kPitch + c + column];
            }
        }
    }
}

template <class P, class Weight>
__global__ void __launch_bounds__(kProductThreads, P::kResidentBlocks)
    shrink_kernel(const ShrinkParameters<typename P::Operand, Weight> call) {
    MOEK_DYNAMIC_SHARED(unsigned char, shared);
    const int64_t first_token = static_cast<int64_t>(blockIdx.x) * kBlockRows;
    const auto& part = call.part[static_cast<int>(blockIdx.y) >= call.part[1].first_tile ? 1 : 0];
    const int first_column = (static_cast<int>(blockIdx.y) - part.first_tile) * P::kBlockColumns;
    const int64_t depth = call.split_depth * blockIdx.z;
    const int64_t depth_end = min(depth + call.split_depth, static_cast<int64_t>(call.depth));

    if (blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0) {
        for (int i = static_cast<int>(threadIdx.x); i < call.clear_count; i += kProductThreads) call.clear[i] = 0;
    }
    typename P::Sums sums;
    sums.clear();
    accumulate_product<P>(sums, part.tokens, first_token, part.weights, first_column, depth, depth_end, shared);

    const int columns = min(P::kBlockColumns, part.columns - first_column);
    write_partials<P>(call, sums, first_token, part.first_column + first_column, columns, shared);
}

template <class Operand, class Weight>
ShrinkParameters<Operand, Weight> make_parameters(const Shrink& shrink) {
    ShrinkParameters<Operand, Weight> call = {};
    call.T = shrink.T;
    call.depth = shrink.depth;
    call.split_depth = shrink.plan.split_depth;
    call.columns = shrink.columns;
    call.partials = shrink.partials;
    call.clear = shrink.clear;
    call.clear_count = shrink.clear == nullptr ? 0 : shrink.clear_count;
    int tile = 0;
    for (int i = 0; i < 2; ++i) {
        // Without a second part no tile reaches it.
        const ShrinkPart& part = shrink.part[i < shrink.parts ? i : 0];
        const bool in_line = part.weights.order == WeightOrder::kDepthInLine;
        call.part[i].tokens = make_source<Operand>(part.tokens, shrink.T);
        call.part[i].weights = make_source<Weight>(part.weights);
        call.part[i].columns = in_line ? part.weights.lines[0] + part.weights.lines[1] : part.weights.elements;
        call.part[i].first_column = part.first_column;
        call.part[i].first_tile = tile;
        tile += (call.part[i].columns + shrink.plan.block_columns - 1) / shrink.plan.block_columns;
    }
    return call;
}

template <class Operand, class Weight, Math kMath>
void launch_shrink(const Shrink& shrink, cudaStream_t stream) {
    const ShrinkParameters<Operand, Weight> call = make_parameters<Operand, Weight>(shrink);
    const dim3 grid(static_cast<unsigned>(shrink.plan.row_tiles), static_cast<unsigned>(shrink.plan.column_tiles),
                    static_cast<unsigned>(shrink.plan.splits));
    with_weight_order(shrink.part[0].weights.order, [&](auto along) {
        with_block_columns(shrink.plan.block_columns, [&](auto columns) {
            using P = Product<kMath, Operand, Along::kDepth, decltype(along)::value, decltype(columns)::value>;
            launch(shrink_kernel<P, Weight>, grid, dim3(kProductThreads), P::kSharedBytes, stream, call);
        });
    });
}

}  // namespace moek::cuda
