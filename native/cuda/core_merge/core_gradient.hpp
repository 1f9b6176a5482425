// The gradient of the cores: dC [E, r, r] (+)= sum_t (p (x) u)_t dv_t^T, a weight gradient with a streamed operand that is
// made on the way.
#pragma once

#include <cuda_runtime.h>

#include "cuda/common/device.hpp"
#include "cuda/gemm/weight_gradient.hpp"
#include "moekernels.h"

namespace moek::cuda {

// dv [T, pitch] in the operands' type; tokens that are not live are passed over. Fills in everything but `partials`.
WeightGradient make_core_gradient(const Device& device, const moek_core_merge_args& args, const OperandTypes& types,
                                  const TokenOperand& dv);

void run_core_gradient(const moek_core_merge_args& args, const WeightGradient& gradient, cudaStream_t stream);

}  // namespace moek::cuda
