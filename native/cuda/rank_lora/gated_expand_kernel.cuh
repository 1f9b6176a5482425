// y (+)= h B^T with h = scale gate u made on the way, for up to kCudaFewTokens tokens and kCudaFusedRanks ranks.
//
// Layouts     a and z are f32 partial sums [splits, T, columns]; B and y as in expand_kernel; h lies in shared memory only,
//             as the product's left operand.
// Owner       Block x alone writes columns 128 x .. 128 x + 127 of y. Every block gates all tokens for itself, a warp each,
//             which costs less than a launch; block 0 also writes ids, gates, u, gate_logits and counts.
// Bytes       Per block 4 splits columns T of partial sums and 128 r of B, both out of L2 when they are not the first to
//             read it; y once. B is on its way while the tokens are gated.
// Order       Splits in order, a token's sums in the warp's fixed order: every block makes the same bits of h.
#pragma once

#include <cuda_runtime.h>

#include "core/rank_lora/cuda_plan.hpp"
#include "cuda/gemm/expand_kernel.cuh"
#include "cuda/rank_lora/gate_token.cuh"
#include "cuda/rank_lora/gated_expand.hpp"

namespace moek::cuda {

template <class Operand, class Weight>
struct GatedExpandParameters {
    WeightSource<Weight> weights;
    ExpandTarget<Operand> target;
    GateTask task;
    const float* partials;
    int32_t splits;
    int32_t columns;       // of a token's partial sums
    int32_t stages;        // of the depth r
    int32_t behind_tiles;  // bytes of shared memory ahead of the histogram
};

// Four neighbouring elements of a row of the left operand.
template <class Operand>
__device__ __forceinline__ void store_four(unsigned char* place, const float (&h)[4]) {
    if constexpr (sizeof(Operand) == 4) {
        *reinterpret_cast<float4*>(place) = make_float4(h[0], h[1], h[2], h[3]);
    } else {
        *reinterpret_cast<uint2*>(place) = make_uint2(pack2<Operand>(h[0], h[1]), pack2<Operand>(h[2], h[3]));
    }
}

template <class P, class Weight>
__global__ void __launch_bounds__(kProductThreads, 1)
    gated_expand_kernel(const GatedExpandParameters<typename P::Operand, Weight> call) {
    MOEK_DYNAMIC_SHARED(unsigned char, shared);
    constexpr int kPerThread = 4;
    using Team = WarpTeam<32>;
    const GateTask& task = call.task;
    const int first_column = static_cast<int>(blockIdx.x) * P::kBlockColumns;
    unsigned char* const left = shared;
    unsigned char* const right = shared + call.stages * P::Left::kBytes;

    for (int stage = 0; stage < call.stages; ++stage) {
        load_right<P>(right + stage * P::Right::kBytes, call.weights, first_column, stage * P::kBlockDepth);
    }
    cp_async_commit();

    const bool writes = blockIdx.x == 0;
    unsigned* const behind = reinterpret_cast<unsigned*>(shared + call.behind_tiles);
    unsigned* const histogram = writes && task.counts != nullptr ? behind : nullptr;
    int* const all_places = reinterpret_cast<int*>(behind) + kCudaFusedRanks;
    if (histogram != nullptr) clear_histogram(histogram, task.r());

    const Team team;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int first = team.thread() * kPerThread;
    float bias[kPerThread];
    load_bias(team, task.rule.softmax, bias);
#pragma unroll 1
    for (int row = warp; row < kBlockRows; row += kProductThreads / 32) {
        float h[kPerThread] = {};
        if (row < task.T) {
            const GateInputs inputs = {call.partials + static_cast<int64_t>(row) * call.columns, call.splits,
                                       task.T * call.columns};
            gate_token(team, task, bias, inputs, row, true, writes, histogram,
                       all_places + warp * static_cast<int>(kCudaFusedRanks), h);
        }
        const int stage = first / P::kBlockDepth;
        if (stage < call.stages) {
            store_four<typename P::Operand>(
                left + stage * P::Left::kBytes + P::Left::element_offset(row, first % P::kBlockDepth), h);
        }
    }
    if (histogram != nullptr) add_histogram(histogram, task.r(), task.counts);
    cp_async_wait<0>();
    __syncthreads();

    typename P::Sums sums;
    sums.clear();
    for (int stage = 0; stage < call.stages; ++stage) {
        sums.template multiply<typename P::Operand>(left + stage * P::Left::kBytes, right + stage * P::Right::kBytes);
    }
    __syncthreads();
    write_expanded<P>(call.target, sums, 0, first_column, shared);
}

template <class Operand, class Weight, Math kMath>
void launch_gated_expand(const Expand& expand, const moek_rank_lora_args& args, const GateRows& rows,
                         cudaStream_t stream) {
    GatedExpandParameters<Operand, Weight> call = {};
    call.weights = make_source<Weight>(expand.term[0].weights);
    call.target = make_target<Operand>(expand);
    call.task = make_gate_task(args);
    call.partials = rows.partials;
    call.splits = rows.splits;
    call.columns = rows.columns;
    const int64_t shared_bytes = cuda_gated_expand_bytes(args.r, sizeof(Operand));
    call.behind_tiles =
        static_cast<int32_t>(shared_bytes - (1 + kProductThreads / 32) * kCudaFusedRanks * int64_t{sizeof(unsigned)});
    with_weight_order(expand.term[0].weights.order, [&](auto along) {
        using P = Product<kMath, Operand, Along::kDepth, decltype(along)::value, kWidestBlock>;
        call.stages = static_cast<int32_t>((args.r + P::kBlockDepth - 1) / P::kBlockDepth);
        launch(gated_expand_kernel<P, Weight>,
               dim3(static_cast<unsigned>((expand.columns + kWidestBlock - 1) / kWidestBlock)), dim3(kProductThreads),
               static_cast<size_t>(shared_bytes), stream, call);
    });
}

}  // namespace moek::cuda
