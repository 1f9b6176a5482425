// core_merge's router for few experts: rows of logits side by side (see cpu/common/lanes.hpp).
#pragma once

#include <cstdint>

namespace moek::cpu::MOEK_ISA_NAME {

// More experts fill a register on their own.
constexpr int64_t kMostSoftmaxLaneExperts = 32;

// p = softmax(z / temperature) of `count` rows; a NaN counts as -infinity, a row without anything else gives zeros.
// Returns the first row with a NaN, or -1. p, with row stride E, may be z.
int64_t softmax_lanes(const float* z, int64_t z_stride, float* p, int64_t count, int64_t E, float temperature);

// dl = p (dp - p . dp) / temperature, in the place of dp; both dense.
void softmax_lanes_back(const float* p, float* dp_to_dl, int64_t count, int64_t E, float temperature);

}  // namespace moek::cpu::MOEK_ISA_NAME
