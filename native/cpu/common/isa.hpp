// Which instruction sets this processor has, and how code reaches the functions compiled for one of them.
#pragma once

#include <cstdint>

#include "moekernels.h"

namespace moek::cpu {

// The best instruction set that the processor and the operating system offer.
int32_t best_isa();

// Resolves a value of moek_isa: AUTO becomes the best one, one that is missing throws INVALID_ARGUMENT.
int32_t resolve_isa(int32_t requested);

}  // namespace moek::cpu

// MOEK_DECLARE_PER_ISA(void f(int x);) declares moek::cpu::scalar::f, moek::cpu::avx2::f and so on; use it in
// namespace moek::cpu. MOEK_SELECT_ISA(isa, f) is the function f for `isa`. NEON code is what the compiler makes of the
// files compiled for the baseline target of arm64. MOEK_ISA_AVX512_BF16 has code of its own in gemm_pairs.hpp only.
#if defined(MOEK_HAVE_X86_ISAS)
#define MOEK_DECLARE_PER_ISA(...) \
    namespace scalar {            \
    __VA_ARGS__                   \
    }                             \
    namespace avx2 {              \
    __VA_ARGS__                   \
    }                             \
    namespace avx512 {            \
    __VA_ARGS__                   \
    }
#define MOEK_SELECT_ISA(isa, function)                         \
    ((isa) == MOEK_ISA_AVX512 || (isa) == MOEK_ISA_AVX512_BF16 \
         ? &::moek::cpu::avx512::function                      \
         : ((isa) == MOEK_ISA_AVX2 ? &::moek::cpu::avx2::function : &::moek::cpu::scalar::function))
#else
#define MOEK_DECLARE_PER_ISA(...) \
    namespace scalar {            \
    __VA_ARGS__                   \
    }
#define MOEK_SELECT_ISA(isa, function) (static_cast<void>(isa), &::moek::cpu::scalar::function)
#endif
