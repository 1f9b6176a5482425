// Y[t, c] (+)= sum_k L[t, k] W[k, c], optionally times dropout's mask.
//
// Layouts     L [T, depth] in the operands' type with neighbouring elements along the depth; W [columns, depth] or
//             [depth, columns], one matrix or two, one below the other; Y [T, columns] with rows of any stride. Up to two
//             terms with operands of their own are added before the result is rounded, once.
// Owner       Block (x, y) alone reads and writes Y for tokens 128 x .. 128 x + 127, columns 128 y .. 128 y + 127.
// Bytes       Y once (twice when it accumulates), in 16-byte stores; L and W out of L2, each tile 128 depth elements.
//             Minimum: Y, W once, L once. For depths up to 128 both operands are on their way before the first product.
// Order       An element is one chain of sums over the depth; nothing depends on which block runs when.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.hpp"
#include "cuda/gemm/dispatch.hpp"
#include "cuda/gemm/expand.hpp"
#include "cuda/gemm/expand_epilogue.cuh"
#include "cuda/gemm/make_source.hpp"
#include "cuda/gemm/product.hpp"
#include "cuda/gemm/staging.hpp"

namespace moek::cuda {

template <class Operand, class Weight>
struct ExpandParameters {
    TokenSource<Operand> tokens[2];
    WeightSource<Weight> weights[2];
    int32_t depth[2];
    int32_t terms;
    int32_t masks_first_term;
    ExpandTarget<Operand> target;
};

template <class P, class Weight>
__global__ void __launch_bounds__(kProductThreads, P::kResidentBlocks)
    expand_kernel(const ExpandParameters<typename P::Operand, Weight> call) {
    MOEK_DYNAMIC_SHARED(unsigned char, shared);
    const int64_t first_token = static_cast<int64_t>(blockIdx.x) * kBlockRows;
    const int first_column = static_cast<int>(blockIdx.y) * P::kBlockColumns;

    using Staged = Staging<P, 4>;
    typename P::Sums sums;
    sums.clear();
#pragma unroll 1
    for (int term = 0; term < call.terms; ++term) {
        accumulate_product<P>(sums, call.tokens[term], first_token, call.weights[term], first_column, 0,
                              call.depth[term], shared);
        if (term == 0 && call.masks_first_term != 0) {
            // By way of shared memory, where a thread has the four neighbours that the generator makes at once.
            float* const staged = Staged::put(sums, shared);
            for (int i = static_cast<int>(threadIdx.x); i < kBlockRows * (P::kBlockColumns / 4); i += kProductThreads) {
                const int row = i / (P::kBlockColumns / 4);
                const int column = i % (P::kBlockColumns / 4) * 4;
                float factors[4];
                const int64_t element = (first_token + row) * call.target.columns + first_column + column;
                dropout_run(call.target.dropout, static_cast<uint64_t>(element), factors);
#pragma unroll
                for (int v = 0; v < 4; ++v) staged[row * Staged::kPitch + column + v] *= factors[v];
            }
            __syncthreads();
            Staged::get(sums, shared);
        }
    }

    write_expanded<P>(call.target, sums, first_token, first_column, shared);
}

template <class Operand, class Weight, Math kMath>
void launch_expand(const Expand& expand, cudaStream_t stream) {
    ExpandParameters<Operand, Weight> call = {};
    for (int i = 0; i < 2; ++i) {
        const ExpandTerm& term = expand.term[i < expand.terms ? i : 0];
        call.tokens[i] = make_source<Operand>(term.tokens, expand.T);
        call.weights[i] = make_source<Weight>(term.weights);
        call.depth[i] = term.tokens.elements;
    }
    call.terms = expand.terms;
    call.masks_first_term = expand.mask == ExpandMask::kFirstTerm && expand.dropout.active();
    call.target = make_target<Operand>(expand);
    const dim3 grid(static_cast<unsigned>((expand.T + kBlockRows - 1) / kBlockRows),
                    static_cast<unsigned>((expand.columns + kWidestBlock - 1) / kWidestBlock));
    with_weight_order(expand.term[0].weights.order, [&](auto along) {
        using P = Product<kMath, Operand, Along::kDepth, decltype(along)::value, kWidestBlock>;
        launch(expand_kernel<P, Weight>, grid, dim3(kProductThreads), P::kSharedBytes, stream, call);
    });
}

}  // namespace moek::cuda
