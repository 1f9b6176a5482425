// The conversion instructions (cvt) between float and the storage types.
#pragma once

#include <bit>
#include <cstdint>

namespace moek::emulation {

inline float float_from_f16(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
    const uint32_t magnitude = bits & 0x7FFFu;
    if (magnitude >= 0x7C00u) {  // infinity and NaN; a NaN comes out quiet
        const uint32_t fraction = magnitude & 0x3FFu;
        return std::bit_cast<float>(fraction == 0 ? sign | 0x7F800000u : 0x7FFFFFFFu);
    }
    if (magnitude < 0x0400u) {  // subnormal or zero: a multiple of 2^-24
        const float value = static_cast<float>(magnitude) * 0x1p-24f;
        return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
    }
    return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
}

// Rounds to nearest even; NaN becomes 0x7FFF.
inline uint16_t bf16_from_float(float value) {
    if (value != value) return 0x7FFFu;
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    return static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

// Rounds to nearest even; NaN becomes 0x7FFF.
inline uint16_t f16_from_float(float value) {
    if (value != value) return 0x7FFFu;
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // from 65520 on
    if (magnitude < 0x38800000u) {
        // Below 2^-14: adding 0.5 leaves in the low bits the value in multiples of 2^-24, rounded to nearest even.
        const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
        return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000u));
    }
    magnitude += 0xFFFu + (magnitude >> 13 & 1u);
    return static_cast<uint16_t>(sign | ((magnitude - (112u << 23)) >> 13));
}

// Rounds to the 10 fraction bits of tf32, ties away from zero; NaN becomes 0x7FFFFFFF.
inline uint32_t tf32_from_float(float value) {
    if (value != value) return 0x7FFFFFFFu;
    return (std::bit_cast<uint32_t>(value) + 0x1000u) & ~0x1FFFu;
}

}  // namespace moek::emulation
