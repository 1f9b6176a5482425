#include "core/dropout/cuda_plan.hpp"

#include <algorithm>

namespace moek {

CudaDropoutPlan plan_cuda_dropout(int64_t T, int64_t d, int sm_count) {
    constexpr int kThreads = 256;
    constexpr int kBlocksPerMultiprocessor = 8;  // 2048 threads
    constexpr int64_t kMostGridColumns = 65535;
    // A row that does not start at a multiple of four touches one Philox block more.
    const int64_t row_blocks = d / 4 + (d % 4 != 0 ? 2 : 0);
    CudaDropoutPlan plan = {};
    plan.columns = 1;
    while (plan.columns < kThreads && plan.columns < row_blocks) plan.columns *= 2;
    plan.rows = kThreads / plan.columns;
    const int64_t columns_needed = (row_blocks - 1) / plan.columns + 1;
    const int64_t rows_needed = T / plan.rows + (T % plan.rows != 0 ? 1 : 0);
    const int64_t most = int64_t{sm_count} * kBlocksPerMultiprocessor;
    plan.grid_columns = static_cast<int>(std::min({columns_needed, most, kMostGridColumns}));
    plan.grid_rows = static_cast<int>(std::min(rows_needed, std::max<int64_t>(1, most / plan.grid_columns)));
    return plan;
}

std::string to_string(const CudaDropoutPlan& plan) {
    return "block " + std::to_string(plan.columns) + " x " + std::to_string(plan.rows) + ", grid " +
           std::to_string(plan.grid_columns) + " x " + std::to_string(plan.grid_rows);
}

}  // namespace moek
