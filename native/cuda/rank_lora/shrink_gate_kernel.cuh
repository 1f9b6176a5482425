// [a, z] = x~ [A; W_r]^T and rank_lora's gate in the epilogue: h = scale gate u, ids, gates, u, gate_logits, counts.
//
// Layouts     As in shrink_kernel and gate_rows_kernel; a and z never leave the block.
// Owner       Block x alone writes everything of tokens 128 x .. 128 x + 127: its tile is as wide as a and z together.
// Bytes       x once, A and W_r once per 128 tokens (out of L2), and what the gate writes. Minimum: the same without the
//             repeated weights.
// Order       A sum is one chain over the depth; a warp gates a token in its fixed order; counts by integer atomics.
//             `counts` must be zero before: the caller's memset, for no kernel comes before this one.
#pragma once

#include <cuda_runtime.h>

#include "cuda/gate/row_elements.cuh"
#include "cuda/gemm/shrink_kernel.cuh"
#include "cuda/rank_lora/gate_token.cuh"
#include "cuda/rank_lora/shrink_gate.hpp"

namespace moek::cuda {

template <class Token, class Weight>
struct ShrinkGateParameters {
    TokenSource<Token> tokens;
    WeightSource<Weight> weights;
    int32_t depth;
    GateTask task;
    Token* h;
    int64_t h_pitch;
    int32_t h_aligned;
};

// The gate of a block's tokens on their finished sums. By the multiplying threads; `shared` is the product's own memory.
template <class P, class Parameters>
__device__ __forceinline__ void gate_tile(const Parameters& call, typename P::Sums& sums, int64_t first_token,
                                          unsigned char* shared) {
    constexpr int kPerThread = P::kBlockColumns / 32;
    using Team = WarpTeam<32>;
    using Staged = Staging<P, 4>;
    const GateTask& task = call.task;
    const float* const staged = Staged::put(sums, shared);

    // Behind the staged sums, in what the operands have left.
    unsigned char* const rest = shared + kBlockRows * Staged::kPitch * sizeof(float);
    unsigned* const histogram = task.counts != nullptr ? reinterpret_cast<unsigned*>(rest) : nullptr;
    int* const all_places = reinterpret_cast<int*>(rest) + P::kBlockColumns;
    static_assert((kBlockRows * Staged::kPitch + P::kBlockColumns * (1 + kProductThreads / 32)) * 4 <= P::kSharedBytes);
    if (histogram != nullptr) clear_histogram(histogram, task.r());

    const Team team;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int first = team.thread() * kPerThread;
    float bias[kPerThread];
    load_bias(team, task.rule.softmax, bias);
#pragma unroll 1
    for (int row = warp; row < kBlockRows; row += kProductThreads / 32) {
        const int64_t token = first_token + row;
        if (token >= task.T) break;
        float h[kPerThread];
        const GateInputs inputs{staged + row * Staged::kPitch, 1, 0};
        gate_token(team, task, bias, inputs, token, true, true, histogram, all_places + warp * P::kBlockColumns, h);
        store_elements(call.h + token * call.h_pitch + first, h, task.r() - first, call.h_aligned != 0);
    }
    if (histogram != nullptr) add_histogram(histogram, task.r(), task.counts);
}

template <class P, class Weight>
__global__ void __launch_bounds__(kProductThreads, P::kResidentBlocks)
    shrink_gate_kernel(const ShrinkGateParameters<typename P::Operand, Weight> call) {
    MOEK_DYNAMIC_SHARED(unsigned char, shared);
    const int64_t first_token = static_cast<int64_t>(blockIdx.x) * kBlockRows;
    typename P::Sums sums;
    sums.clear();
    accumulate_product<P>(sums, call.tokens, first_token, call.weights, 0, 0, call.depth, shared);
    gate_tile<P>(call, sums, first_token, shared);
}

template <class Operand, class Weight, Math kMath>
void launch_shrink_gate(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                        cudaStream_t stream) {
    const ShrinkPart& part = shrink.part[0];
    ShrinkGateParameters<Operand, Weight> call = {};
    call.tokens = make_source<Operand>(part.tokens, shrink.T);
    call.weights = make_source<Weight>(part.weights);
    call.depth = shrink.depth;
    call.task = make_gate_task(args);
    call.h = static_cast<Operand*>(rows.h);
    call.h_pitch = rows.h_pitch;
    with_block_columns(shrink.plan.block_columns, [&](auto columns) {
        constexpr int kColumns = decltype(columns)::value;
        using P = Product<kMath, Operand, Along::kDepth, Along::kDepth, kColumns>;
        call.h_aligned = runs_are_aligned(call.h, call.h_pitch, sizeof(Operand), kColumns / 32);
        launch(shrink_gate_kernel<P, Weight>, dim3(static_cast<unsigned>(shrink.plan.row_tiles)), dim3(kProductThreads),
               P::kSharedBytes, stream, call);
    });
}

}  // namespace moek::cuda
