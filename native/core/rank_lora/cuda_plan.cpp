#include "core/rank_lora/cuda_plan.hpp"

#include <algorithm>

#include "core/gemm/cuda_plan.hpp"

namespace moek {
namespace {

int64_t divide_up(int64_t value, int64_t by) {
    return value / by + (value % by != 0 ? 1 : 0);
}

// Every block that gates reads all splits, so more tokens want fewer of them.
int64_t splits_for(int64_t T) {
    return T <= 4 ? kMostSplits : T <= 16 ? 16 : 8;
}

}  // namespace

int64_t cuda_gated_expand_bytes(int64_t r, int operand_bytes) {
    const int64_t stages = divide_up(r * operand_bytes, kStageRowBytes);
    const int64_t operands = stages * (kBlockRows + kWidestBlock) * kStageRowBytes;
    const int64_t staging = int64_t{kBlockRows} * (kWidestBlock + 4) * 4;
    const int64_t histogram = kCudaFusedRanks * 4;
    const int64_t places = kProductThreads / 32 * kCudaFusedRanks * 4;
    return std::max(operands, staging) + histogram + places;
}

CudaRankLoraPlan plan_cuda_rank_lora_forward(const moek_rank_lora_args& args, int sm_count, int64_t shared_bytes) {
    const bool routed = args.gate == MOEK_RANK_GATE_ROUTER;
    const int operand_bytes = args.x_dtype == MOEK_DTYPE_F32 ? 4 : 2;
    const int64_t columns = args.r + (routed ? args.r / args.rank_partition : 0);
    const bool together = !routed || args.router_input == nullptr;
    CudaRankLoraPlan plan = {};
    plan.gate = CudaGatePlace::kOwnKernel;
    plan.block_columns = plan_block_columns(together ? columns : args.r);
    plan.most_splits = kMostSplits;
    // Fused gates sum in an order of their own, which T would choose.
    if ((args.flags & MOEK_CALL_FLAG_BATCH_INVARIANT) != 0 || args.r > kCudaFusedRanks) return plan;

    if (args.T <= kCudaFewTokens && cuda_gated_expand_bytes(args.r, operand_bytes) <= shared_bytes) {
        plan.gate = CudaGatePlace::kInExpand;
        // Narrow blocks, for more of them.
        plan.block_columns = 32;
        plan.most_splits = splits_for(args.T);
    } else if (together && columns <= kWidestBlock && 2 * divide_up(args.T, kBlockRows) > sm_count) {
        // Rows alone keep the multiprocessors busy: the depth would not be split.
        plan.gate = CudaGatePlace::kInShrink;
        plan.most_splits = 1;
    }
    return plan;
}

std::string to_string(const CudaRankLoraPlan& plan) {
    const char* const places[] = {"own kernel", "in shrink", "in expand"};
    return std::string("gate ") + places[static_cast<int>(plan.gate)] + ", shrink by " +
           std::to_string(plan.block_columns) + " columns in up to " + std::to_string(plan.most_splits) + " splits";
}

}  // namespace moek
