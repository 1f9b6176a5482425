// Adds the parts of a weight gradient that several blocks computed.
#pragma once

#include <cuda_runtime.h>

#include "cuda/gemm/weight_gradient.hpp"

namespace moek::cuda {

void run_gradient_sum(const WeightGradient& gradient, cudaStream_t stream);

}  // namespace moek::cuda
