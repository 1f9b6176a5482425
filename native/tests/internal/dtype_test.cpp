// Conversions between storage types and float, against the definition.
#include "core/dtype.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace moek {
namespace {

// The value that 16 bits stand for, by the formula of the format.
double decode(uint16_t bits, int exponent_bits, int fraction_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    const int fraction = bits & ((1 << fraction_bits) - 1);
    const double sign = (bits & 0x8000) != 0 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1) {
        return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                             : std::numeric_limits<double>::quiet_NaN();
    }
    if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
    return sign * std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

struct Bf16Format {
    static constexpr int kExponent = 8, kFraction = 7;
    static float widen(uint16_t bits) { return to_float(bf16{bits}); }
    static uint16_t narrow(float value) { return to_bf16(value).bits; }
};

struct F16Format {
    static constexpr int kExponent = 5, kFraction = 10;
    static float widen(uint16_t bits) { return to_float(f16{bits}); }
    static uint16_t narrow(float value) { return to_f16(value).bits; }
};

template <class Format>
class Dtype : public testing::Test {};
using Formats = testing::Types<Bf16Format, F16Format>;
TYPED_TEST_SUITE(Dtype, Formats);

TYPED_TEST(Dtype, WideningIsExactForAllBitPatterns) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const double expected = decode(static_cast<uint16_t>(bits), TypeParam::kExponent, TypeParam::kFraction);
        const float got = TypeParam::widen(static_cast<uint16_t>(bits));
        if (std::isnan(expected)) {
            EXPECT_TRUE(std::isnan(got)) << bits;
        } else {
            ASSERT_EQ(static_cast<double>(got), expected) << bits;
            ASSERT_EQ(std::signbit(got), std::signbit(expected)) << bits;
        }
    }
}

TYPED_TEST(Dtype, NarrowingRoundsToNearestEven) {
    // Between every two neighbouring finite values: just below, at and just above the midpoint.
    const uint16_t infinity = static_cast<uint16_t>(((1 << TypeParam::kExponent) - 1) << TypeParam::kFraction);
    for (uint16_t bits = 0; bits < infinity; ++bits) {
        const uint16_t next = static_cast<uint16_t>(bits + 1);
        const double low = decode(bits, TypeParam::kExponent, TypeParam::kFraction);
        // The step to infinity is as wide as the one before it.
        const double high = next == infinity ? 2 * low - decode(static_cast<uint16_t>(bits - 1), TypeParam::kExponent,
                                                                TypeParam::kFraction)
                                             : decode(next, TypeParam::kExponent, TypeParam::kFraction);
        const float middle = static_cast<float>((low + high) / 2);
        const uint16_t even = (bits & 1) == 0 ? bits : next;
        ASSERT_EQ(TypeParam::narrow(static_cast<float>(low)), bits);
        ASSERT_EQ(TypeParam::narrow(middle), even) << bits;
        ASSERT_EQ(TypeParam::narrow(std::nextafter(middle, 0.0f)), bits);
        ASSERT_EQ(TypeParam::narrow(std::nextafter(middle, std::numeric_limits<float>::infinity())), next);
        ASSERT_EQ(TypeParam::narrow(-middle), even | 0x8000) << bits;
    }
}

TYPED_TEST(Dtype, NarrowingKeepsInfinityAndNan) {
    const uint16_t infinity = static_cast<uint16_t>(((1 << TypeParam::kExponent) - 1) << TypeParam::kFraction);
    EXPECT_EQ(TypeParam::narrow(std::numeric_limits<float>::infinity()), infinity);
    EXPECT_EQ(TypeParam::narrow(-std::numeric_limits<float>::infinity()), infinity | 0x8000);
    EXPECT_EQ(TypeParam::narrow(std::numeric_limits<float>::max()), infinity);
    // Also the NaNs whose payload lies in the bits that are cut, and the one that rounding would overflow.
    for (uint32_t bits : {0x7F800001u, 0x7FC00000u, 0x7FFFFFFFu, 0xFF800001u, 0xFFFFFFFFu}) {
        EXPECT_TRUE(std::isnan(TypeParam::widen(TypeParam::narrow(float_from_bits(bits))))) << bits;
    }
}

TYPED_TEST(Dtype, SmallestFloatsBecomeSignedZero) {
    EXPECT_EQ(TypeParam::narrow(0.0f), 0);
    EXPECT_EQ(TypeParam::narrow(-0.0f), 0x8000);
    EXPECT_EQ(TypeParam::narrow(std::numeric_limits<float>::denorm_min()), 0);
}

}  // namespace
}  // namespace moek
