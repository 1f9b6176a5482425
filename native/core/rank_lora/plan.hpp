// How rank_lora is computed on a CPU: a pure function of what the caller asks for.
#pragma once

#include "moekernels.h"

namespace moek {

// The products of rank_lora touch k of r ranks per token. Sparse, they read those k rows only; dense, they are matrix
// products over all r ranks with zeros where a rank is not selected.
struct RankLoraPlan {
    bool sparse_down;  // u = A[ids] x~ after the gate; else a = A x~ for every rank (with the router in one product)
    bool sparse_up;    // y, dh and dB
    bool sparse_du;    // dA, and its part of dx
    bool sparse_dz;    // dW_r, and its part of dx
};

// Depends on r, k and the gate only. Not on T: a token's result must not change with its neighbours.
RankLoraPlan plan_rank_lora(const moek_rank_lora_args& args);

}  // namespace moek
