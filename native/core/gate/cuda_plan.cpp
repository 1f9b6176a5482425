#include "core/gate/cuda_plan.hpp"

#include <algorithm>

namespace moek {
namespace {

// Eight warps: small enough that a few hundred rows reach every multiprocessor, large enough to share a histogram.
constexpr int kBlockThreads = 256;
// The one block that counts alone is larger, and goes over its rows a few times: that takes less time than a memset, the
// second operation on the stream that counts need otherwise.
constexpr int kLoneBlockThreads = 512;
constexpr int kLoneBlockPasses = 4;
// Threads that a multiprocessor holds at once.
constexpr int kResidentThreads = 2048;

int block_threads_of(const CudaGateRowForm& form, int threads) {
    return form.threads == kCudaGateBlockThreads ? kCudaGateBlockThreads : threads;
}

// More blocks than fit at once would only count into more histograms.
int blocks_of(int64_t T, const CudaGateRowForm& form, int block_threads, int sm_count) {
    const int64_t rows = block_threads / form.threads;
    const int64_t groups = T / rows + (T % rows != 0 ? 1 : 0);
    return static_cast<int>(std::min<int64_t>(groups, int64_t{sm_count} * (kResidentThreads / block_threads)));
}

}  // namespace

CudaGateRowForm cuda_gate_row_form(int64_t E) {
    if (E <= 4) return {4, 1};
    if (E <= 8) return {8, 1};
    if (E <= 16) return {16, 1};
    const int threads = E <= kCudaGateWarpElements ? 32 : kCudaGateBlockThreads;
    int per_thread = 1;
    while (int64_t{threads} * per_thread < E) per_thread *= 2;
    return {threads, per_thread};
}

CudaGatePlan plan_cuda_gate_backward(int64_t T, int64_t E, int sm_count) {
    CudaGatePlan plan = {};
    plan.form = cuda_gate_row_form(E);
    plan.block_threads = block_threads_of(plan.form, kBlockThreads);
    plan.blocks = blocks_of(T, plan.form, plan.block_threads, sm_count);
    plan.counts = CudaGateCounts::kNone;
    return plan;
}

CudaGatePlan plan_cuda_gate_forward(int64_t T, int64_t E, bool wants_counts, bool accumulates_counts, int sm_count) {
    CudaGatePlan plan = plan_cuda_gate_backward(T, E, sm_count);
    if (!wants_counts) return plan;
    plan.counts = CudaGateCounts::kAdd;
    if (accumulates_counts) return plan;
    const int lone_threads = block_threads_of(plan.form, kLoneBlockThreads);
    if (T > 0 && T <= int64_t{kLoneBlockPasses} * (lone_threads / plan.form.threads)) {
        plan.block_threads = lone_threads;
        plan.blocks = 1;
        plan.counts = CudaGateCounts::kStore;
        return plan;
    }
    plan.clear_counts = true;
    return plan;
}

std::string to_string(const CudaGatePlan& plan) {
    const char* const counts[] = {"none", "store", "add"};
    return "row " + std::to_string(plan.form.threads) + " threads x " + std::to_string(plan.form.per_thread) +
           ", grid " + std::to_string(plan.blocks) + " x " + std::to_string(plan.block_threads) + ", counts " +
           (plan.clear_counts ? "clear+" : "") + counts[static_cast<int>(plan.counts)];
}

}  // namespace moek
