// The parts of `gate` that exist once per instruction set.
#pragma once

#include <cstdint>

#include "cpu/common/isa.hpp"

namespace moek::cpu {

// Elements of scratch memory, in double or float alike, that a call of the functions below needs.
constexpr int64_t gate_rows_scratch(int64_t E) {
    return 6 * E;
}

// The rows first .. last - 1. `histogram` [E], optional: ids are counted into it.
MOEK_DECLARE_PER_ISA(void gate_forward_rows(const moek_gate_args& args, int64_t first, int64_t last, void* scratch,
                                            int32_t* histogram);)
MOEK_DECLARE_PER_ISA(void gate_backward_rows(const moek_gate_args& args, int64_t first, int64_t last, void* scratch);)
// The first of these rows with a NaN logit, or -1.
MOEK_DECLARE_PER_ISA(int64_t gate_nan_row(const moek_gate_args& args, int64_t first, int64_t last);)

}  // namespace moek::cpu
