// The launch of weight_gradient_kernel that makes dC; see gemm/weight_gradient_kernel.cuh for what it does with L = dv and
// X = p (x) u.
#pragma once

#include <cuda_runtime.h>

#include "cuda/core_merge/core_gradient.hpp"
#include "cuda/core_merge/outer_source.hpp"
#include "cuda/gemm/weight_gradient_kernel.cuh"

namespace moek::cuda {

template <class Operand, Math kMath>
void launch_core_gradient(const moek_core_merge_args& args, const WeightGradient& gradient, cudaStream_t stream) {
    OuterSource weighted = {};
    weighted.p = static_cast<const float*>(args.p);
    weighted.u = static_cast<const float*>(args.u);
    weighted.tokens = args.T;
    weighted.E = static_cast<int32_t>(args.E);
    weighted.r = static_cast<int32_t>(args.r);
    weighted.aligned = rows_are_aligned(weighted.u, args.r);
    launch_weight_gradient<Operand, kMath>(gradient, weighted, stream);
}

}  // namespace moek::cuda
