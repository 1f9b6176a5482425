#pragma once

#include <cstdint>
#include <vector>

#include "moekernels.h"

namespace moek::reference {

/// One core_merge call in double, all tensors dense and row-major; an empty vector is an absent tensor.
///
/// The oracle of the fast paths. It forms the merged core M = sum_e p_e C_e of every token, as the paper writes it and
/// as the fast paths never do, so that an error in their rearrangement cannot hide here too.
struct CoreMerge {
    int64_t T = 0;
    int64_t d_in = 1;
    int64_t d_out = 1;
    int64_t r = 1;
    int64_t E = 1;
    moek_core_router router = MOEK_CORE_ROUTER_CORE;
    double scale = 1;
    double temperature = 1;
    std::vector<double> x;                  // [T, d_in]
    std::vector<double> dropout_mask;       // [T, d_in]: the factors on x, 0 or 1 / (1 - p); empty: no dropout
    std::vector<double> dropout_core_mask;  // [T, r]: the factors on v; empty: no dropout
    std::vector<double> router_input;       // [T, d_in]; empty: the INPUT router reads x without dropout
    std::vector<double> A;                  // [r, d_in]
    std::vector<double> B;                  // [d_out, r]
    std::vector<double> C;                  // [E, r, r]
    std::vector<double> W_g;                // [E, r] (CORE) or [E, d_in] (INPUT)
    std::vector<double> p;                  // [T, E]; CALLER
};

/// What forward writes, shapes as in moek_core_merge_args.
struct CoreMergeOutput {
    std::vector<double> y;  // [T, d_out]
    std::vector<double> u;  // [T, r]
    std::vector<double> p;  // [T, E]
    std::vector<double> v;  // [T, r], before its dropout
};

/// What backward writes, shapes as in moek_core_merge_args.
struct CoreMergeGradient {
    std::vector<double> dx;             // [T, d_in]
    std::vector<double> drouter_input;  // [T, d_in]; empty without router_input
    std::vector<double> dA;             // [r, d_in]
    std::vector<double> dB;             // [d_out, r]
    std::vector<double> dC;             // [E, r, r]
    std::vector<double> dW_g;           // shape of W_g; empty with CALLER
    std::vector<double> dp;             // [T, E]
};

CoreMergeOutput core_merge_forward(const CoreMerge& call);

/// Backward of the call, given what its forward returned and dy [T, d_out].
CoreMergeGradient core_merge_backward(const CoreMerge& call, const CoreMergeOutput& forward,
                                      const std::vector<double>& dy);

}  // namespace moek::reference
