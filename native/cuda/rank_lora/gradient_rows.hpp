// The gradient of rank_lora's gate: from dP = dY B and what forward saved to the left operands of the products that follow.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/device.hpp"
#include "moekernels.h"

namespace moek::cuda {

struct GradientRows {
    const float* partials = nullptr;  // [splits, T, r]: dY B, without the scale
    int32_t splits = 1;
    int32_t router_rows = 0;  // 0 without a router
    void* h = nullptr;        // [T, h_pitch], x's dtype: scale gate u, the left operand of dB
    int64_t h_pitch = 0;
    void* d = nullptr;  // [T, d_pitch], x's dtype: du [r], zeros up to router_column, dz [router_rows]
    int64_t d_pitch = 0;
    int32_t router_column = 0;
    uint8_t* h_live = nullptr;  // [T]: whether the token's row of h is not all zeros; the same for d
    uint8_t* d_live = nullptr;
};

void run_gradient_rows(const Device& device, const moek_rank_lora_args& args, const GradientRows& rows,
                       cudaStream_t stream);

}  // namespace moek::cuda
