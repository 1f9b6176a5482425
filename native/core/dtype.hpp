// Element types: sizes, names and conversions rounded to nearest even.
//
// Everything here has internal linkage, because files compiled for different instruction sets include it (see the rule
// in native/CMakeLists.txt).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "moekernels.h"

namespace moek {

struct bf16 {
    uint16_t bits;
};

struct f16 {
    uint16_t bits;
};

static inline size_t dtype_size(int32_t dtype) {
    switch (dtype) {
        case MOEK_DTYPE_F64:
            return 8;
        case MOEK_DTYPE_F32:
            return 4;
        default:
            return 2;
    }
}

static inline const char* dtype_name(int32_t dtype) {
    switch (dtype) {
        case MOEK_DTYPE_F32:
            return "f32";
        case MOEK_DTYPE_BF16:
            return "bf16";
        case MOEK_DTYPE_F16:
            return "f16";
        case MOEK_DTYPE_F64:
            return "f64";
        default:
            return "an unknown dtype";
    }
}

// The type of sums, gate weights, biases and saved tensors beside a tensor of `dtype`.
static inline int32_t accumulator_dtype(int32_t dtype) {
    return dtype == MOEK_DTYPE_F64 ? MOEK_DTYPE_F64 : MOEK_DTYPE_F32;
}

static inline uint32_t float_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float float_from_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline float to_float(bf16 value) {
    return float_from_bits(static_cast<uint32_t>(value.bits) << 16);
}

static inline bf16 to_bf16(float value) {
    const uint32_t bits = float_bits(value);
    // A NaN keeps its sign and upper payload and becomes quiet; adding the rounding term could turn it into infinity.
    const uint32_t quiet_nan = (bits >> 16) | 0x0040u;
    const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    return bf16{static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet_nan : rounded)};
}

static inline float to_float(f16 value) {
    const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
    const uint32_t magnitude = value.bits & 0x7FFFu;
    // Shifted into binary32's place, exponent and fraction are right but for the bias: 2^112 repairs it, exactly, also
    // for subnormals. Infinity and NaN get the largest exponent by hand.
    const float scaled = float_from_bits(magnitude << 13) * 0x1p112f;
    const uint32_t special = 0x7F800000u | (magnitude << 13);
    return float_from_bits(sign | (magnitude >= 0x7C00u ? special : float_bits(scaled)));
}

static inline f16 to_f16(float value) {
    const uint32_t bits = float_bits(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    // Normal results: rebias the exponent by 112 and round the fraction to 10 bits; a carry moves to the next exponent.
    const uint32_t normal = (magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
    // Subnormal results (below 2^-14): adding 0.5 leaves units of 2^-24 in the fraction, rounded by the addition.
    const uint32_t subnormal = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3F000000u;
    const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    // From 65520 on the nearest value is infinity. A NaN keeps its upper payload and becomes quiet.
    const uint32_t large = magnitude > 0x7F800000u ? (0x7E00u | ((magnitude >> 13) & 0x3FFu)) : 0x7C00u;
    return f16{static_cast<uint16_t>(sign | (magnitude >= 0x477FF000u ? large : finite))};
}

// Storage to accumulator and back, for code that is a template over the storage type.
template <class Storage>
using accumulator_t = std::conditional_t<std::is_same_v<Storage, double>, double, float>;

template <class Storage>
static inline accumulator_t<Storage> load(Storage value) {
    if constexpr (std::is_same_v<Storage, bf16> || std::is_same_v<Storage, f16>) {
        return to_float(value);
    } else {
        return value;
    }
}

template <class Storage>
static inline Storage store(accumulator_t<Storage> value) {
    if constexpr (std::is_same_v<Storage, bf16>) {
        return to_bf16(value);
    } else if constexpr (std::is_same_v<Storage, f16>) {
        return to_f16(value);
    } else {
        return value;
    }
}

}  // namespace moek
