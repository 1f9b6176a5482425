// The conversions of cuda/common/element.hpp and mma.hpp: all 65536 values of each 16-bit type, and every float near a
// border between two of them.
#include <bit>
#include <cmath>
#include <cstdint>

#include "core/dtype.hpp"
#include "cuda/common/element.hpp"
#include "cuda/common/mma.hpp"
#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

// By definition rather than by bits: sign, exponent and fraction of a half.
double exact_f16(uint32_t bits) {
    const double sign = (bits & 0x8000u) != 0 ? -1 : 1;
    const int exponent = static_cast<int>(bits >> 10 & 31u);
    const int fraction = static_cast<int>(bits & 1023u);
    if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
    return exponent == 0 ? sign * std::ldexp(fraction, -24) : sign * std::ldexp(1024 + fraction, exponent - 25);
}

double exact_bf16(uint32_t bits) {
    return std::bit_cast<float>(bits << 16);
}

TEST(Conversions, EveryHalfAndBfloatIsExactAsAFloatAndComesBack) {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const uint16_t narrow = static_cast<uint16_t>(bits);
        const float half = cuda::to_float(cuda::float16{narrow});
        const float bfloat = cuda::to_float(cuda::bfloat16{narrow});
        if (std::isnan(exact_f16(bits))) {
            ASSERT_TRUE(std::isnan(half)) << bits;
            ASSERT_EQ(cuda::from_float<cuda::float16>(half).bits, 0x7FFF) << bits;
        } else {
            ASSERT_EQ(half, exact_f16(bits)) << bits;
            ASSERT_EQ(std::signbit(half), std::signbit(exact_f16(bits))) << bits;
            ASSERT_EQ(cuda::from_float<cuda::float16>(half).bits, narrow) << bits;
        }
        if (std::isnan(exact_bf16(bits))) {
            ASSERT_EQ(cuda::from_float<cuda::bfloat16>(bfloat).bits, 0x7FFF) << bits;
        } else {
            ASSERT_EQ(bfloat, exact_bf16(bits)) << bits;
            ASSERT_EQ(cuda::from_float<cuda::bfloat16>(bfloat).bits, narrow) << bits;
        }
    }
}

// Every float at and beside a value of the narrow type and the middle between two: all places where rounding decides.
template <class T>
void check_rounding(double (*exact)(uint32_t), uint32_t infinity) {
    for (uint32_t bits = 0; bits < infinity; ++bits) {
        const double low = exact(bits);
        // Beyond the largest value the next would be one step on, and rounds to infinity.
        const double high = bits + 1 < infinity ? exact(bits + 1) : low + (low - exact(bits - 1));
        const double middle = (low + high) / 2;
        const float near_middle = static_cast<float>(middle);
        for (float value : {static_cast<float>(low), std::nextafterf(near_middle, 0), near_middle,
                            std::nextafterf(near_middle, INFINITY)}) {
            const bool up = value > middle || (value == middle && (bits & 1u) != 0);
            const uint32_t expected = up ? bits + 1 : bits;
            ASSERT_EQ(cuda::from_float<T>(value).bits, expected) << value;
            ASSERT_EQ(cuda::from_float<T>(-value).bits, expected | 0x8000u) << value;
        }
    }
}

TEST(Conversions, RoundToNearestEven) {
    check_rounding<cuda::float16>(exact_f16, 0x7C00);
    check_rounding<cuda::bfloat16>(exact_bf16, 0x7F80);
    EXPECT_EQ(cuda::from_float<cuda::float16>(1e30f).bits, 0x7C00);
    EXPECT_EQ(cuda::from_float<cuda::bfloat16>(-INFINITY).bits, 0xFF80);
}

TEST(Conversions, AgreeWithTheCpuBackend) {
    uint32_t bits = 1;
    for (int i = 0; i < 1'000'000; ++i) {
        bits = bits * 1664525u + 1013904223u;
        const float value = std::bit_cast<float>(bits);
        if (std::isnan(value)) continue;
        ASSERT_EQ(cuda::from_float<cuda::bfloat16>(value).bits, to_bf16(value).bits) << value;
        ASSERT_EQ(cuda::from_float<cuda::float16>(value).bits, to_f16(value).bits) << value;
    }
}

TEST(Conversions, PairsKeepTheirOrderInMemory) {
    const uint32_t packed = cuda::pack2<cuda::bfloat16>(1, -2);
    EXPECT_EQ(packed, 0xC0003F80u);
    EXPECT_EQ(cuda::unpack2<cuda::bfloat16>(packed).x, 1.0f);
    EXPECT_EQ(cuda::unpack2<cuda::bfloat16>(packed).y, -2.0f);
    EXPECT_EQ(cuda::pack2<cuda::float16>(1, -2), 0xC0003C00u);
    EXPECT_EQ(cuda::unpack2<cuda::float16>(0xC0003C00u).y, -2.0f);
}

TEST(Conversions, Tf32RoundsTiesAwayFromZero) {
    const auto tf32 = [](float value) { return std::bit_cast<float>(cuda::to_tf32(value)); };
    EXPECT_EQ(tf32(1 + 0x1p-10f), 1 + 0x1p-10f);
    EXPECT_EQ(tf32(1 + 0x1p-11f), 1 + 0x1p-10f);
    EXPECT_EQ(tf32(-1 - 0x1p-11f), -1 - 0x1p-10f);
    EXPECT_EQ(tf32(1 + 0x1p-11f - 0x1p-23f), 1.0f);
    EXPECT_EQ(tf32(INFINITY), INFINITY);
    EXPECT_EQ(tf32(-0.0f), 0.0f);
    EXPECT_TRUE(std::isnan(tf32(NAN)));
    for (uint32_t bits = 0; bits < 0x7F000000u; bits += 12347) {
        const float value = std::bit_cast<float>(bits);
        const double step = std::ldexp(1.0, std::max(std::ilogb(value), -126) - 10);
        ASSERT_EQ(tf32(value), static_cast<float>(std::floor(value / step + 0.5) * step)) << value;
    }
}

}  // namespace
}  // namespace moek::emulation::test
