// Forward of core_merge between its products: from the sums of A x~ to the left operand of the product with B.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/core_merge/cuda_plan.hpp"
#include "cuda/common/philox.hpp"
#include "cuda/gemm/operands.hpp"
#include "moekernels.h"

namespace moek::cuda {

// Places in the workspace, or the caller's tensors.
struct Mix {
    const float* partials = nullptr;  // [splits, T, columns]: A x~ [r], then with the INPUT router its logits [E]
    int32_t splits = 1;
    int32_t columns = 0;
    float* u = nullptr;       // [T, r]; may be null unless the router is CORE
    float* p = nullptr;       // [T, E]
    void* u_rows = nullptr;   // [T, pitch], x's dtype
    void* vd_rows = nullptr;  // [T, pitch], x's dtype: scale dropout(v)
    int64_t pitch = 0;
    uint8_t* live = nullptr;  // [T]
    Dropout dropout = {};     // of v
    OperandTypes types;
    CudaCorePlan plan;
};

// One launch, or two where the plan does not fuse the router.
void run_mix(const moek_core_merge_args& args, const Mix& mix, cudaStream_t stream);

}  // namespace moek::cuda
