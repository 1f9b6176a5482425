// Products with a short sum and a large result: Y [T, columns] (+)= L [T, depth] W. B h, A^T du.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/gemm/operands.hpp"

namespace moek::cuda {

// A part of the sum with operands of its own.
struct ExpandTerm {
    TokenOperand tokens;    // [T, depth], elements of the operands' type
    WeightOperand weights;  // depth x columns
};

// What dropout's mask multiplies.
enum class ExpandMask { kNothing, kEverything, kFirstTerm };

struct Expand {
    ExpandTerm term[2];
    int32_t terms = 1;
    int64_t T = 0;
    int32_t columns = 0;
    OperandTypes types;
    void* y = nullptr;  // [T, columns], elements of the tokens' type
    int64_t y_stride = 0;
    bool accumulate = false;
    ExpandMask mask = ExpandMask::kNothing;
    Dropout dropout = {};
};

void run_expand(const Expand& expand, cudaStream_t stream);

}  // namespace moek::cuda
