// P[s][t, c] = sum over the depth of split s of X[t, k] W[c, k], in f32: what shrink_kernel computes, in clusters.
//
// Layouts     As in shrink_kernel, for 16-bit X and W of one type whose lines start at multiples of 16 bytes.
// Owner       Block (x, y, z) alone writes the results of tokens 128 x .. 128 x + 127 and of its part's columns in split z. Blocks
//             x = c i .. c i + c - 1 are a cluster; those beyond the last token write nothing.
// Bytes       X once per column tile of its part, W once per 128 c tokens (out of L2), and 4 splits T columns for P.
//             Minimum: X once, W once.
// Order       That of shrink_kernel, to the bit: the same stages through the same instructions.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.hpp"
#include "cuda/gemm/cluster_operands.hpp"
#include "cuda/gemm/cluster_product.hpp"
#include "cuda/gemm/shrink_kernel.cuh"

namespace moek::cuda {

struct ClusterShrinkPart {
    ClusterOperands operands;
    int32_t columns;
    int32_t first_column;  // of P
    int32_t first_tile;
};

struct ClusterShrinkParameters {
    ClusterShrinkPart part[2];
    int64_t T;
    int32_t split_depth;
    int32_t depth;
    int32_t columns;
    float* partials;
    int32_t* clear;
    int32_t clear_count;
};

template <class P>
__global__ void __launch_bounds__(kClusterThreads, P::kResidentBlocks)
    cluster_shrink_kernel(const __grid_constant__ ClusterShrinkParameters call) {
    // Older GPUs have no such instructions, and are not asked to run this.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    MOEK_DYNAMIC_SHARED_1024(unsigned char, shared);
    MOEK_SHARED(ClusterBarriers, barriers, 1);
    const int64_t first_token = static_cast<int64_t>(blockIdx.x) * kBlockRows;
    const auto& part = call.part[static_cast<int>(blockIdx.y) >= call.part[1].first_tile ? 1 : 0];
    const int first_column = (static_cast<int>(blockIdx.y) - part.first_tile) * P::kBlockColumns;
    const int32_t depth = call.split_depth * static_cast<int32_t>(blockIdx.z);
    const int32_t depth_end = min(depth + call.split_depth, call.depth);

    begin_cluster(barriers[0]);
    if (threadIdx.x >= kProductThreads) {
        if (threadIdx.x == kProductThreads) {
            copy_stages<P>(part.operands.tokens, static_cast<int32_t>(first_token), part.operands.weights, first_column,
                           depth, depth_end, barriers[0], shared);
        }
        return;
    }
    if (blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0) {
        for (int i = static_cast<int>(threadIdx.x); i < call.clear_count; i += kProductThreads) call.clear[i] = 0;
    }
    typename P::Sums sums;
    sums.clear();
    multiply_stages<P>(sums, depth, depth_end, barriers[0], shared);
    const int columns = min(P::kBlockColumns, part.columns - first_column);
    write_partials<P>(call, sums, first_token, part.first_column + first_column, columns, shared);
    end_cluster();
#endif
}

template <class P>
bool launch_cluster_shrink(const Shrink& shrink, ClusterShrinkParameters& call, cudaStream_t stream) {
    for (int i = 0; i < shrink.parts; ++i) {
        if (!make_cluster_operands<P>(shrink, shrink.part[i], call.part[i].operands)) return false;
    }
    const dim3 grid(cluster_blocks(shrink.plan), static_cast<unsigned>(shrink.plan.column_tiles),
                    static_cast<unsigned>(shrink.plan.splits));
    launch_clusters(cluster_shrink_kernel<P>, grid, dim3(kClusterThreads), static_cast<unsigned>(shrink.plan.cluster),
                    P::kSharedBytes, stream, call);
    return true;
}

template <class Operand>
bool launch_cluster_shrink(const Shrink& shrink, cudaStream_t stream) {
    const ShrinkParameters<Operand, Operand> same = make_parameters<Operand, Operand>(shrink);
    ClusterShrinkParameters call = {};
    call.T = same.T;
    call.split_depth = static_cast<int32_t>(same.split_depth);
    call.depth = same.depth;
    call.columns = same.columns;
    call.partials = same.partials;
    call.clear = same.clear;
    call.clear_count = same.clear_count;
    for (int i = 0; i < 2; ++i) {
        call.part[i].columns = same.part[i].columns;
        call.part[i].first_column = same.part[i].first_column;
        call.part[i].first_tile = same.part[i].first_tile;
    }
    const bool in_line = shrink.part[0].weights.order == WeightOrder::kDepthInLine;
    if (shrink.plan.block_columns == 64) {
        return in_line ? launch_cluster_shrink<ClusterProduct<Operand, Along::kDepth, 64>>(shrink, call, stream)
                       : launch_cluster_shrink<ClusterProduct<Operand, Along::kRows, 64>>(shrink, call, stream);
    }
    return in_line && launch_cluster_shrink<ClusterProduct<Operand, Along::kDepth, 128>>(shrink, call, stream);
}

}  // namespace moek::cuda
