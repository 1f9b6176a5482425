// The gate for few experts: 16 rows side by side. For files compiled per instruction set.
//
// A row of 8 logits fills no register, and what gate_row.hpp does to it costs the same as for 16. So here a row lies in a
// lane, and each step works on 16 rows at once, whatever the number of experts.
//
// Which form a call takes depends on its E and k alone, so a row's result depends on nothing but the row. In single
// precision only; double is for checks.
#pragma once

#include <cstdint>

#include "moekernels.h"

namespace moek::cpu::MOEK_ISA_NAME {

constexpr int64_t kMostLaneExperts = 64;

// Whether rows with so many experts are computed side by side. The list of the best k is kept by insertion, k E steps;
// from some number of them on the row's own selection is faster, which depends on the width of a register.
static inline bool gate_uses_lanes(int64_t E, int64_t k, bool all) {
    if (all) return E <= 32;
#if defined(__AVX512F__)
    return E <= 16 || (E <= kMostLaneExperts && k <= 8);
#elif defined(__AVX2__)
    return E <= kMostLaneExperts && k <= 8 && k * E <= 256;
#else
    return E <= kMostLaneExperts / 2 && k * E <= 64;
#endif
}

// The rows first .. last - 1, of a storage dtype other than f64. `histogram` [E], optional: ids are counted into it.
void gate_lanes_forward(const moek_gate_args& args, int64_t first, int64_t last, int32_t* histogram);
void gate_lanes_backward(const moek_gate_args& args, int64_t first, int64_t last);

}  // namespace moek::cpu::MOEK_ISA_NAME
