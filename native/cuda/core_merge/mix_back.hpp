// Backward of core_merge between its products: from dY B and what forward saved to the left operands of the products that
// follow, back through the cores and the router.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/core_merge/cuda_plan.hpp"
#include "cuda/common/philox.hpp"
#include "cuda/gemm/operands.hpp"
#include "moekernels.h"

namespace moek::cuda {

// Places in the workspace. Operands have x's dtype; null where nobody needs them.
struct MixBack {
    const float* partials = nullptr;  // [splits, T, r]: dY B, without the scale; null with dv_rows
    int32_t splits = 0;
    void* dv_rows = nullptr;  // [T, pitch]: scale dropout'(dY B)
    void* vd_rows = nullptr;  // [T, pitch]: scale dropout(v)
    void* u_rows = nullptr;   // [T, pitch]
    int64_t pitch = 0;
    uint8_t* live = nullptr;  // [T]: whether any p is not 0

    bool past_cores = false;  // whether anything below is wanted
    float* du = nullptr;      // [T, r]
    float* dp = nullptr;      // [dp_parts, T, E]
    void* d_rows = nullptr;   // [T, d_pitch]: du [r], and with a router zeros up to router_column, dl [E]
    int64_t d_pitch = 0;
    int32_t router_column = 0;

    Dropout dropout = {};  // of v
    OperandTypes types;
    CudaCorePlan plan;

    // The most that a thread's share of a token's ranks is one of.
    int64_t dp_parts() const { return int64_t{plan.column_tiles} * (plan.block_columns / 32); }
};

// One launch; three where the plan does not fuse the router.
void run_mix_back(const moek_core_merge_args& args, const MixBack& back, cudaStream_t stream);

}  // namespace moek::cuda
