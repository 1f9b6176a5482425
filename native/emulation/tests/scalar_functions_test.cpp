// Functions of one thread: bits, maths, cached loads.
#include <cmath>
#include <cstdint>
#include <limits>

#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(BitFunctions, CountsAndPositions) {
    EXPECT_EQ(__popc(0u), 0);
    EXPECT_EQ(__popc(0xF0F0F0F1u), 17);
    EXPECT_EQ(__popcll(0xF0F0F0F1F0F0F0F1ull), 34);
    EXPECT_EQ(__ffs(0), 0);
    EXPECT_EQ(__ffs(1), 1);
    EXPECT_EQ(__ffs(static_cast<int>(0x80000000u)), 32);
    EXPECT_EQ(__ffsll(1ll << 40), 41);
    EXPECT_EQ(__clz(0), 32);
    EXPECT_EQ(__clz(1), 31);
    EXPECT_EQ(__clz(-1), 0);
    EXPECT_EQ(__clzll(1), 63);
    EXPECT_EQ(__clzll(0), 64);
    EXPECT_EQ(__brev(1u), 0x80000000u);
    EXPECT_EQ(__brev(0x12345678u), 0x1E6A2C48u);
}

TEST(BitFunctions, HighWordsOfProducts) {
    EXPECT_EQ(__umulhi(0xFFFFFFFFu, 0xFFFFFFFFu), 0xFFFFFFFEu);
    EXPECT_EQ(__mulhi(-2, 3), -1);
    EXPECT_EQ(__mulhi(1 << 30, 8), 2);
    EXPECT_EQ(__umul64hi(~0ull, 2), 1ull);
}

TEST(BitFunctions, ShiftsAndBytes) {
    EXPECT_EQ(__funnelshift_l(0x80000001u, 0x12345678u, 4), 0x23456788u);
    EXPECT_EQ(__funnelshift_r(0x80000001u, 0x12345678u, 4), 0x88000000u);
    EXPECT_EQ(__funnelshift_r(0x80000001u, 0x12345678u, 32), 0x80000001u);
    EXPECT_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x6420u), 0x66442200u);
    EXPECT_EQ(__byte_perm(0x80000000u, 0, 0xBBBBu), 0xFFFFFFFFu);
    EXPECT_EQ(__byte_perm(0x70000000u, 0, 0xB3B3u), 0x00700070u);
}

TEST(BitFunctions, BitsOfFloats) {
    EXPECT_EQ(__float_as_uint(1.0f), 0x3F800000u);
    EXPECT_EQ(__uint_as_float(0xC0000000u), -2.0f);
    EXPECT_EQ(__float_as_int(-0.0f), std::numeric_limits<int>::min());
    EXPECT_EQ(__int_as_float(0x7F800000), kInfinity);
    EXPECT_EQ(__longlong_as_double(__double_as_longlong(-1.5)), -1.5);
}

TEST(MathFunctions, NanLosesAgainstANumber) {
    EXPECT_EQ(fmaxf(NAN, -3.0f), -3.0f);
    EXPECT_EQ(fmaxf(-3.0f, NAN), -3.0f);
    EXPECT_EQ(fminf(NAN, kInfinity), kInfinity);
    EXPECT_TRUE(std::isnan(fmaxf(NAN, NAN)));
    EXPECT_EQ(max(NAN, 2.0f), 2.0f);
    EXPECT_EQ(min(2.0f, NAN), 2.0f);
    EXPECT_EQ(max(-3, 2), 2);
    EXPECT_EQ(min(3u, 2u), 2u);
    EXPECT_EQ(max(int64_t{5}, int64_t{1} << 40), int64_t{1} << 40);
}

TEST(MathFunctions, RoundedOnce) {
    // 1 + 2^-24 + 2^-48 in one rounding and in two.
    const float tiny = 0x1p-24f;
    EXPECT_EQ(__fmaf_rn(1 + 0x1p-23f, 1 + 0x1p-23f, -1), 0x1.000001p-22f);
    EXPECT_EQ(__fmul_rn(1 + 0x1p-23f, 1 + 0x1p-23f), 1 + 0x1p-22f);
    EXPECT_EQ(__fadd_rn(1, tiny), 1.0f);
    EXPECT_EQ(__fsub_rn(1, tiny), 1 - tiny);
    EXPECT_EQ(__fdiv_rn(1, 3), 1.0f / 3.0f);
    EXPECT_EQ(__frcp_rn(3), 1.0f / 3.0f);
    EXPECT_EQ(__fsqrt_rn(2), std::sqrt(2.0f));
    EXPECT_EQ(rsqrtf(4), 0.5f);
    EXPECT_EQ(rsqrtf(0), kInfinity);
}

TEST(MathFunctions, FastOnesAreNear) {
    for (float x : {-80.0f, -3.3f, 0.0f, 0.7f, 10.0f, 80.0f}) {
        // 2 + |1.16 x| units in the last place, says CUDA.
        const double exact = std::exp(static_cast<double>(x));
        EXPECT_NEAR(__expf(x), exact, exact * 0x1p-23 * (2 + 1.16 * std::fabs(x))) << x;
    }
    EXPECT_EQ(__expf(-kInfinity), 0.0f);
    EXPECT_EQ(__expf(kInfinity), kInfinity);
    EXPECT_TRUE(std::isnan(__expf(NAN)));
    EXPECT_NEAR(__logf(10), std::log(10.0), 1e-6);
    EXPECT_EQ(__logf(0), -kInfinity);
    EXPECT_NEAR(__fdividef(1, 3), 1.0 / 3, 1e-7);
    EXPECT_EQ(__fdividef(5, 0x1.8p126f), 0.0f);
    EXPECT_TRUE(std::isnan(__fdividef(kInfinity, 0x1.8p126f)));
    EXPECT_EQ(__saturatef(NAN), 0.0f);
    EXPECT_EQ(__saturatef(-1), 0.0f);
    EXPECT_EQ(__saturatef(0.25f), 0.25f);
    EXPECT_EQ(__saturatef(3), 1.0f);
}

TEST(MathFunctions, ConversionsToIntegersClampAndRound) {
    EXPECT_EQ(__float2int_rn(2.5f), 2);
    EXPECT_EQ(__float2int_rn(3.5f), 4);
    EXPECT_EQ(__float2int_rz(-2.9f), -2);
    EXPECT_EQ(__float2int_rd(-2.1f), -3);
    EXPECT_EQ(__float2int_ru(-2.9f), -2);
    EXPECT_EQ(__float2int_rn(1e20f), std::numeric_limits<int>::max());
    EXPECT_EQ(__float2int_rn(-1e20f), std::numeric_limits<int>::min());
    EXPECT_EQ(__float2int_rn(NAN), 0);
    EXPECT_EQ(__float2uint_rn(-1), 0u);
    EXPECT_EQ(__float2uint_rz(3e9f), 3000000000u);
    EXPECT_EQ(__float2uint_rz(1e20f), std::numeric_limits<unsigned>::max());
    EXPECT_EQ(__int2float_rn(16777217), 16777216.0f);
    EXPECT_EQ(__uint2float_rn(0xFFFFFFFFu), 4294967296.0f);
}

TEST(MemoryFunctions, MoveValuesOfAnyType) {
    const float source = 3;
    float target = 0;
    __stcs(&target, __ldg(&source));
    EXPECT_EQ(target, 3.0f);
    __stcg(&target, __ldcg(&source) + 1);
    EXPECT_EQ(target, 4.0f);
    __stwt(&target, __ldcs(&source) + 2);
    EXPECT_EQ(target, 5.0f);
    const uint4 words = make_uint4(1, 2, 3, 4);
    uint4 copy = {};
    __stcs(&copy, __ldg(&words));
    EXPECT_EQ(copy.w, 4u);
}

TEST(VectorTypes, SizesAndAlignments) {
    EXPECT_EQ(alignof(float4), 16u);
    EXPECT_EQ(alignof(float3), 4u);
    EXPECT_EQ(alignof(uint2), 8u);
    EXPECT_EQ(alignof(ushort4), 8u);
    EXPECT_EQ(sizeof(float3), 12u);
    EXPECT_EQ(sizeof(dim3), 12u);
    const dim3 size = 5;
    EXPECT_EQ(size.x, 5u);
    EXPECT_EQ(size.y, 1u);
    EXPECT_EQ(size.z, 1u);
}

}  // namespace
}  // namespace moek::emulation::test
