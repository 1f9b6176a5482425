// Products of two bf16 matrices with VDPBF16PS: an instruction multiplies two neighbouring steps of the depth of 16 columns,
// without widening either operand first.
//
// Arithmetic. As in gemm.hpp, but the chain of a block takes two steps at a time: s = fma(a_k, b_k, fma(a_k+1, b_k+1, s)),
// with operands and sums below 2^-126 taken for zeros. Whether a product goes this way depends on dtypes, layouts and hooks,
// not on M and N: an element's bits still depend on its row of A, its column of B and K only.
#pragma once

#include "cpu/common/gemm.hpp"

namespace moek::cpu {

// A's rows lie along the depth, both operands are bf16, and nothing changes them on the way.
bool gemm_fits_pairs(const Gemm& gemm);

namespace avx512_bf16 {
GemmFunctions gemm_pairs_functions();
}

}  // namespace moek::cpu
