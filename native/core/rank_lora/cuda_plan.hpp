// Which kernels run rank_lora forward on a GPU: a pure function of what the caller asks for and the GPU.
#pragma once

#include <cstdint>
#include <string>

#include "moekernels.h"

namespace moek {

// Where the gate runs.
enum class CudaGatePlace {
    kOwnKernel,  // shrink, gate, expand: three launches
    kInShrink,   // in the epilogue of x~ [A; W_r]^T, where a block has all of a token's sums
    kInExpand,   // ahead of h B^T, by every block for itself, where there are few tokens
};

struct CudaRankLoraPlan {
    CudaGatePlace gate;
    int block_columns;    // of the shrink
    int64_t most_splits;  // of the shrink's depth

    bool operator==(const CudaRankLoraPlan&) const = default;
};

// Up to here the launches weigh more than what they do.
inline constexpr int64_t kCudaFewTokens = 64;
// The most ranks that a warp gates with four of them in a thread.
inline constexpr int64_t kCudaFusedRanks = 128;

CudaRankLoraPlan plan_cuda_rank_lora_forward(const moek_rank_lora_args& args, int sm_count, int64_t shared_bytes);

// Shared memory of a block that gates ahead of the product with B.
int64_t cuda_gated_expand_bytes(int64_t r, int operand_bytes);

std::string to_string(const CudaRankLoraPlan& plan);

}  // namespace moek
