// [a, z] = x~ [A; W_r]^T and rank_lora's gate in the epilogue: what shrink_gate_kernel computes, in clusters.
//
// Layouts     As in shrink_gate_kernel, for 16-bit x, A and W_r of one type whose rows start at multiples of 16 bytes.
// Owner       Block x alone writes everything of tokens 128 x .. 128 x + 127. Blocks c i .. c i + c - 1 are a cluster; those beyond
//             the last token write nothing.
// Bytes       x once, A and W_r once per 128 c tokens (out of L2), and what the gate writes.
// Order       That of shrink_gate_kernel, to the bit.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.hpp"
#include "cuda/gemm/cluster_operands.hpp"
#include "cuda/gemm/cluster_product.hpp"
#include "cuda/rank_lora/shrink_gate_kernel.cuh"

namespace moek::cuda {

template <class Token>
struct ClusterShrinkGateParameters {
    ClusterOperands operands;
    int32_t depth;
    GateTask task;
    Token* h;
    int64_t h_pitch;
    int32_t h_aligned;
};

template <class P>
__global__ void __launch_bounds__(kClusterThreads, P::kResidentBlocks)
    cluster_shrink_gate_kernel(const __grid_constant__ ClusterShrinkGateParameters<typename P::Operand> call) {
    // Older GPUs have no such instructions, and are not asked to run this.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    MOEK_DYNAMIC_SHARED_1024(unsigned char, shared);
    MOEK_SHARED(ClusterBarriers, barriers, 1);
    const int64_t first_token = static_cast<int64_t>(blockIdx.x) * kBlockRows;

    begin_cluster(barriers[0]);
    if (threadIdx.x >= kProductThreads) {
        if (threadIdx.x == kProductThreads) {
            copy_stages<P>(call.operands.tokens, static_cast<int32_t>(first_token), call.operands.weights, 0, 0,
                           call.depth, barriers[0], shared);
        }
        return;
    }
    typename P::Sums sums;
    sums.clear();
    multiply_stages<P>(sums, 0, call.depth, barriers[0], shared);
    gate_tile<P>(call, sums, first_token, shared);
    end_cluster();
#endif
}

template <class P>
bool launch_cluster_shrink_gate(const Shrink& shrink, ClusterShrinkGateParameters<typename P::Operand>& call,
                                cudaStream_t stream) {
    if (!make_cluster_operands<P>(shrink, shrink.part[0], call.operands)) return false;
    call.h_aligned = runs_are_aligned(call.h, call.h_pitch, sizeof(typename P::Operand), P::kBlockColumns / 32);
    launch_clusters(cluster_shrink_gate_kernel<P>, dim3(cluster_blocks(shrink.plan)), dim3(kClusterThreads),
                    static_cast<unsigned>(shrink.plan.cluster), P::kSharedBytes, stream, call);
    return true;
}

template <class Operand>
bool launch_cluster_shrink_gate(const Shrink& shrink, const moek_rank_lora_args& args, const GateRows& rows,
                                cudaStream_t stream) {
    ClusterShrinkGateParameters<Operand> call = {};
    call.depth = shrink.depth;
    call.task = make_gate_task(args);
    call.h = static_cast<Operand*>(rows.h);
    call.h_pitch = rows.h_pitch;
    return shrink.plan.block_columns == 64
               ? launch_cluster_shrink_gate<ClusterProduct<Operand, Along::kDepth, 64>>(shrink, call, stream)
               : launch_cluster_shrink_gate<ClusterProduct<Operand, Along::kDepth, 128>>(shrink, call, stream);
}

}  // namespace moek::cuda
