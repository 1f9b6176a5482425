// The gate of rank_lora: from A x~ and the router's logits to ids, gates, u and the left operand of the product with B.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/device.hpp"
#include "moekernels.h"

namespace moek::cuda {

struct GateRows {
    const float* partials = nullptr;  // [splits, T, columns]: a [r], then z [router_rows] with a router
    int32_t splits = 1;
    int32_t columns = 0;
    void* h = nullptr;  // [T, h_pitch], x's dtype: scale gate u at the selected ranks, 0 at others
    int64_t h_pitch = 0;
};

// Adds to args.counts, which must have been cleared unless the call accumulates.
void run_gate_rows(const Device& device, const moek_rank_lora_args& args, const GateRows& rows, cudaStream_t stream);

}  // namespace moek::cuda
