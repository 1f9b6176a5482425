// The main loop of gemm/product.hpp for clusters (sm_90): neighbouring blocks, which compute other rows of the same columns,
// share the right operand. Each reads its share of a stage and multicasts it, so that a cluster of c reads the right operand
// once instead of c times; its left operand every block reads for itself. Both come by tensor copies.
//
// Eight warps multiply, as in product.hpp and in the same order; one lane of a ninth asks for the copies. For each stage of the
// pipeline a block has two mbarriers:
//
//   full    one arrival, by the block's own copying thread, that announces the bytes of the stage, which come from all blocks
//   empty   an arrival of each multiplying warp of every block of the cluster: all have read the stage, in their own memory,
//           and any block may multicast into it again
//
// So no block runs ahead of another by more than kStages. A block whose rows lie outside of the matrix takes part with zeros.
// A block ends when everybody has what it multicasts, and nobody arrives at its barriers any more: stages that are not filled
// again are not given back.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/cluster.hpp"
#include "cuda/common/mbarrier.hpp"
#include "cuda/common/tensor_copy.hpp"
#include "cuda/common/tensor_map.hpp"
#include "cuda/gemm/product.hpp"

namespace moek::cuda {

inline constexpr int kClusterThreads = kProductThreads + 32;

// Both operands have 16 bits. Lines of the left one lie along the depth; those of the right one along the depth, or along up to
// 64 columns: then a line of a tile has the 128 bytes within which a tensor copy swizzles.
template <class OperandType, Along kRightAlong, int kColumns>
struct ClusterProduct : Product<Math::kTensorCore, OperandType, Along::kDepth, kRightAlong, kColumns> {
    static_assert(sizeof(OperandType) == 2);
    static_assert(kRightAlong == Along::kDepth || kColumns == kBoxElements);
};

// The right operand: one matrix or two, one below the other, see WeightSource.
struct ClusterWeights {
    CUtensorMap map[2];
    int32_t second;     // the line at which the second one starts; a multiple of box_lines
    int32_t box_lines;  // of one copy; a divisor of a block's share
};

struct ClusterBarriers {
    uint64_t full[kStages];
    uint64_t empty[kStages];
};

// By all threads of all blocks, before anything else.
__device__ __forceinline__ void begin_cluster(ClusterBarriers& barriers) {
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            mbarrier_init(&barriers.full[stage], 1);
            mbarrier_init(&barriers.empty[stage], kProductThreads / 32 * cluster_size());
        }
        mbarrier_fence_init();
    }
    cluster_arrive_relaxed();
    cluster_wait();
}

// A stage of the ring and the parity of the phase that it is in.
struct ClusterStage {
    int index = 0;
    uint32_t parity = 0;

    __device__ __forceinline__ void advance() {
        index = index == kStages - 1 ? 0 : index + 1;
        if (index == 0) parity ^= 1;
    }
};

// The copying thread's part: brings the steps [depth, depth_end) for the results from (row, column) on.
template <class P>
__device__ __forceinline__ void copy_stages(const CUtensorMap& left, int32_t row, const ClusterWeights& right,
                                            int32_t column, int32_t depth, int32_t depth_end, ClusterBarriers& barriers,
                                            unsigned char* shared) {
    constexpr int kLines = P::Right::kLines;
    constexpr int kLineBytes = P::Right::kBytes / kLines;
    const int share = kLines / static_cast<int>(cluster_size());
    const int first = share * static_cast<int>(cluster_rank());
    const uint16_t everyone = static_cast<uint16_t>((1u << cluster_size()) - 1);
    ClusterStage stage;
    for (; depth < depth_end; depth += P::kBlockDepth, stage.advance()) {
        // Nobody has to leave a stage that was never filled: the phase before the first counts as completed.
        mbarrier_wait(&barriers.empty[stage.index], stage.parity ^ 1);
        uint64_t* const full = &barriers.full[stage.index];
        mbarrier_arrive_expect(full, P::kStageBytes);
        unsigned char* const place = shared + stage.index * P::kStageBytes;
        tensor_copy(place, left, depth, row, full);
#pragma unroll 1
        for (int line = first; line < first + share; line += right.box_lines) {
            unsigned char* const target = place + P::Left::kBytes + line * kLineBytes;
            const int32_t global = P::Right::kAlong == Along::kDepth ? column + line : depth + line;
            const int32_t element = P::Right::kAlong == Along::kDepth ? depth : column;
            if (global < right.second) {
                tensor_copy_multicast(target, right.map[0], element, global, full, everyone);
            } else {
                tensor_copy_multicast(target, right.map[1], element, global - right.second, full, everyone);
            }
        }
    }
}

// The multiplying threads' part: adds those steps. `shared` is free for them when this returns.
template <class P>
__device__ __forceinline__ void multiply_stages(typename P::Sums& sums, int32_t depth, int32_t depth_end,
                                                ClusterBarriers& barriers, const unsigned char* shared) {
    const uint32_t lane = threadIdx.x % 32;
    ClusterStage stage;
    for (; depth < depth_end; depth += P::kBlockDepth, stage.advance()) {
        mbarrier_wait(&barriers.full[stage.index], stage.parity);
        const unsigned char* const place = shared + stage.index * P::kStageBytes;
        sums.template multiply<typename P::Operand>(place, place + P::Left::kBytes);
        __syncwarp();
        const bool is_filled_again = depth + kStages * P::kBlockDepth < depth_end;
        if (is_filled_again && lane < cluster_size()) mbarrier_arrive_at(&barriers.empty[stage.index], lane);
        __syncwarp();
    }
    cluster_arrive_relaxed();
    __syncthreads();
}

// By the multiplying threads, last: every block has what this one has multicast.
__device__ __forceinline__ void end_cluster() {
    cluster_wait();
}

}  // namespace moek::cuda
