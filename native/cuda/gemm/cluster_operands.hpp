// Operands of host code to those of a kernel in clusters: what tensor copies can bring, and how.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <limits>

#include "cuda/common/tensor_map.hpp"
#include "cuda/gemm/cluster_product.hpp"
#include "cuda/gemm/shrink.hpp"

namespace moek::cuda {

struct ClusterOperands {
    CUtensorMap tokens;
    ClusterWeights weights;
};

// False when tensor copies cannot bring them as they are: converted weights, dropout, lines at odd addresses, two weight matrices
// that meet within eight lines.
template <class P>
bool make_cluster_operands(const Shrink& shrink, const ShrinkPart& part, ClusterOperands& made) {
    // Copies name lines by 32 bits, also those of blocks behind the last token.
    constexpr int64_t kMostTokens = int64_t{1} << 30;
    const TokenOperand& tokens = part.tokens;
    const WeightOperand& weights = part.weights;
    if (shrink.types.weight_dtype != shrink.types.token_dtype || tokens.dropout.active() || shrink.T > kMostTokens) {
        return false;
    }
    if (!make_tensor_map(shrink.tensor_map_encoder, {tokens.data, tokens.elements, shrink.T, tokens.stride, kBlockRows},
                         made.tokens)) {
        return false;
    }
    // As many lines at once as a block brings, but none of both matrices.
    const bool two = weights.lines[1] > 0;
    int box_lines = P::Right::kLines / shrink.plan.cluster;
    while (two && weights.second % box_lines != 0) box_lines /= 2;
    if (box_lines < 8) return false;  // the swizzle's period
    made.weights.box_lines = box_lines;
    made.weights.second = two ? weights.second : std::numeric_limits<int32_t>::max();
    for (int i = 0; i < (two ? 2 : 1); ++i) {
        if (!make_tensor_map(shrink.tensor_map_encoder,
                             {weights.data[i], weights.elements, weights.lines[i], weights.stride[i], box_lines},
                             made.weights.map[i])) {
            return false;
        }
    }
    return true;
}

// Blocks along x: those of the plan, rounded up to whole clusters.
inline unsigned cluster_blocks(const ProductPlan& plan) {
    const unsigned cluster = static_cast<unsigned>(plan.cluster);
    return (static_cast<unsigned>(plan.row_tiles) + cluster - 1) / cluster * cluster;
}

}  // namespace moek::cuda
