// Products with few columns and a long sum: P [T, columns] = X [T, depth] W^T. A x~, the router, dY B.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/gemm/cuda_plan.hpp"
#include "cuda/common/device.hpp"
#include "cuda/gemm/operands.hpp"

namespace moek::cuda {

// Weights that multiply the same tokens, with the place of their results among the columns of P.
struct ShrinkPart {
    TokenOperand tokens;    // [T, depth]
    WeightOperand weights;  // columns x depth
    int32_t first_column = 0;
};

struct Shrink {
    ShrinkPart part[2];
    int32_t parts = 1;
    int64_t T = 0;
    int32_t depth = 0;
    int32_t columns = 0;  // of P
    OperandTypes types;
    float* partials = nullptr;  // [splits, T, columns], added in order by whoever reads them
    ProductPlan plan;
    TensorMapEncoder tensor_map_encoder = nullptr;  // for clusters, which plan asks for
    int32_t* clear = nullptr;                       // set to 0 on the way: counters of a kernel that comes later
    int32_t clear_count = 0;
};

// How a shrink is to be cut.
struct ShrinkCut {
    bool batch_invariant = false;  // by the depth alone
    int block_columns = 0;         // 0: those that waste least
    int64_t most_splits = kMostSplits;
};

// Fills in `plan`; everything but `partials` and the pointers must be there.
void plan_shrink(const Device& device, const ShrinkCut& cut, Shrink& shrink);

void run_shrink(const Shrink& shrink, cudaStream_t stream);

}  // namespace moek::cuda
