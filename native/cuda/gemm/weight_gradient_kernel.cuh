// G[c, d] (+)= sum_t L[t, c] X[t, d], or with several splits P[s][c, d] = the part of the sum over the tokens of split s.
//
// Layouts     L [T, columns] in the operands' type, X [T, width]: both have their lines along the rows of the product, and
//             ldmatrix turns them around. G as GradientTarget says, P [splits, columns, width] in f32.
// Owner       Block (x, y, z) alone writes the gradients of elements 128 x .. 128 x + 127 of X for its columns of L in split z.
// Bytes       X once per column tile, L once per 128 elements of X (out of L2), and 4 splits columns width for P.
//             Minimum: X once, L once, G once.
// Order       Tokens in their order within a split, whose size depends on the shape and the GPU only; gradient_sum adds the
//             splits in order. No atomics.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.hpp"
#include "cuda/gemm/dispatch.hpp"
#include "cuda/gemm/gradient_target.hpp"
#include "cuda/gemm/make_source.hpp"
#include "cuda/gemm/product.hpp"
#include "cuda/gemm/staging.hpp"

namespace moek::cuda {

template <class LeftSource, class RightSource>
struct WeightGradientParameters {
    LeftSource tokens;
    RightSource left;
    GradientTargets targets;
    float* partials;  // null: straight to the targets
    int64_t T;
    int64_t split_depth;
    int32_t width;
    int32_t columns;
};

template <class P, class LeftSource, class RightSource>
__global__ void __launch_bounds__(kProductThreads, P::kResidentBlocks)
    weight_gradient_kernel(const WeightGradientParameters<LeftSource, RightSource> call) {
    MOEK_DYNAMIC_SHARED(unsigned char, shared);
    const int first_element = static_cast<int>(blockIdx.x) * kBlockRows;
    const int first_column = static_cast<int>(blockIdx.y) * P::kBlockColumns;
    const int64_t token = call.split_depth * blockIdx.z;
    const int64_t token_end = min(token + call.split_depth, call.T);

    typename P::Sums sums;
    sums.clear();
    accumulate_product<P>(sums, call.tokens, first_element, call.left, first_column, token, token_end, shared);

    // An odd pitch: the tile is read down its columns.
    using Staged = Staging<P, 1>;
    const float* const staged = Staged::put(sums, shared);
    const int elements = min(kBlockRows, call.width - first_element);
    const int columns = min(P::kBlockColumns, call.columns - first_column);
    const bool across = call.partials == nullptr && call.targets.target[0].transposed;
    for (int i = static_cast<int>(threadIdx.x); i < kBlockRows * P::kBlockColumns; i += kProductThreads) {
        // Neighbouring threads write neighbouring places.
        const int element = across ? i / P::kBlockColumns : i % kBlockRows;
        const int column = across ? i % P::kBlockColumns : i / kBlockRows;
        if (element >= elements || column >= columns) continue;
        const float value = staged[element * Staged::kPitch + column];
        if (call.partials == nullptr) {
            call.targets.store(first_column + column, first_element + element, value);
        } else {
            const int64_t row = static_cast<int64_t>(blockIdx.z) * call.columns + first_column + column;
            call.partials[row * call.width + first_element + element] = value;
        }
    }
}

// `tokens` is what gradient.tokens describes, or another source of its shape.
template <class Operand, Math kMath, class Tokens>
void launch_weight_gradient(const WeightGradient& gradient, const Tokens& tokens, cudaStream_t stream) {
    using Left = TokenSource<Operand>;
    WeightGradientParameters<Tokens, Left> call = {};
    call.tokens = tokens;
    call.left = make_source<Operand>(gradient.left, gradient.T);
    call.targets = targets_of(gradient);
    call.partials = gradient.plan.splits > 1 ? gradient.partials : nullptr;
    call.T = gradient.T;
    call.split_depth = gradient.plan.split_depth;
    call.width = gradient.tokens.elements;
    call.columns = gradient.left.elements;
    const dim3 grid(static_cast<unsigned>(gradient.plan.row_tiles), static_cast<unsigned>(gradient.plan.column_tiles),
                    static_cast<unsigned>(gradient.plan.splits));
    with_block_columns(gradient.plan.block_columns, [&](auto columns) {
        using P = Product<kMath, Operand, Along::kRows, Along::kRows, decltype(columns)::value>;
        launch(weight_gradient_kernel<P, Tokens, Left>, grid, dim3(kProductThreads), P::kSharedBytes, stream, call);
    });
}

template <class Operand, Math kMath>
void launch_weight_gradient(const WeightGradient& gradient, cudaStream_t stream) {
    launch_weight_gradient<Operand, kMath>(gradient, make_source<Operand>(gradient.tokens, gradient.T), stream);
}

}  // namespace moek::cuda
