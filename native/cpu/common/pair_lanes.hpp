/**
 * @file pair_lanes.hpp
 * @brief A register of bf16 pairs, each multiplied with another one and added to a float lane. Only for `*_isa.cpp` sources.
 *
 * Pairs travel in registers and arrays of floats, as bits: nothing computes with these floats.
 */
#pragma once

#include <cmath>

#include "cpu/common/simd.hpp"

namespace moek::cpu::MOEK_ISA_NAME {

#if defined(MOEK_HAVE_PAIR_INSTRUCTION)

/** sum + a_high b_high + a_low b_low in every lane. */
inline VecF32::Reg multiply_add_pairs(VecF32::Reg a, VecF32::Reg b, VecF32::Reg sum) {
    static_assert(VecF32::kLanes == 16);
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

#else

// What the instruction does, for tests on processors without it.
inline float emulated_flush(float value) {
    return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value;
}

inline float emulated_step(bf16 a, bf16 b, float sum) {
    return emulated_flush(std::fma(emulated_flush(to_float(a)), emulated_flush(to_float(b)), sum));
}

inline VecF32::Reg multiply_add_pairs(VecF32::Reg a, VecF32::Reg b, VecF32::Reg sum) {
    constexpr int kLanes = VecF32::kLanes;
    bf16 left[size_t{2} * kLanes], right[size_t{2} * kLanes];
    float sums[size_t{kLanes}];
    std::memcpy(left, &a, sizeof left);
    std::memcpy(right, &b, sizeof right);
    VecF32::store(sums, sum);
    for (int i = 0; i < kLanes; ++i) {
        sums[i] = emulated_step(left[2 * i + 1], right[2 * i + 1], emulated_flush(sums[i]));
        sums[i] = emulated_step(left[2 * i], right[2 * i], sums[i]);
    }
    return VecF32::load(sums);
}

#endif

}  // namespace moek::cpu::MOEK_ISA_NAME
