// Elementary functions in a form that compilers turn into vector code, for files compiled per instruction set.
#pragma once

#include <math.h>

#include <limits>

#include "core/dtype.hpp"

namespace moek::cpu::MOEK_ISA_NAME {

template <class Real>
static constexpr Real kInfinity = std::numeric_limits<Real>::infinity();

// exp(x), within 2 units in the last place; 0 for -infinity, infinity where the result overflows. x must not be NaN.
static inline float exponential(float x) {
    // Beyond these the result is 0 or infinity anyway.
    x = x < -105.0f ? -105.0f : x;
    x = x > 89.0f ? 89.0f : x;
    // n = round(x / ln 2): adding 1.5 * 2^23 leaves the integer in the low bits.
    constexpr float kMagic = 12582912.0f;
    const float shifted = x * 1.44269504f + kMagic;
    const float n = shifted - kMagic;
    const int32_t exponent = static_cast<int32_t>(float_bits(shifted) - float_bits(kMagic));
    // x - n ln 2 in two parts, the first of which is exact.
    const float f = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    // exp(f) on [-ln 2 / 2, ln 2 / 2]: the Taylor series, whose next term is below 2^-25.
    float p = 1.0f / 5040;
    p = p * f + 1.0f / 720;
    p = p * f + 1.0f / 120;
    p = p * f + 1.0f / 24;
    p = p * f + 1.0f / 6;
    p = p * f + 0.5f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
    // 2^n in two factors, since n reaches below the smallest normal exponent.
    const int32_t half = exponent >> 1;
    const float scale0 = float_from_bits(static_cast<uint32_t>(half + 127) << 23);
    const float scale1 = float_from_bits(static_cast<uint32_t>(exponent - half + 127) << 23);
    return p * scale0 * scale1;
}

static inline double exponential(double x) {
    return ::exp(x);
}

static inline float logarithm(float x) {
    return ::logf(x);
}
static inline double logarithm(double x) {
    return ::log(x);
}

// Loops over rows in blocks of 16 elements, whatever the length: a tail is padded. Within a block there are no branches
// and no aliases, which is what a compiler needs to make vectors; and the order of a sum does not depend on which.
constexpr int64_t kBlock = 16;

// out[i] = function(in[i]); out may be in. The function also sees zeros, its results for them are dropped.
template <class Real, class Function>
static inline void map_lanes(const Real* in, Real* out, int64_t count, Function function) {
    Real lane[kBlock];
    int64_t start = 0;
    for (; start + kBlock <= count; start += kBlock) {
        for (int64_t i = 0; i < kBlock; ++i) lane[i] = in[start + i];
        for (int64_t i = 0; i < kBlock; ++i) lane[i] = function(lane[i]);
        for (int64_t i = 0; i < kBlock; ++i) out[start + i] = lane[i];
    }
    if (start == count) return;
    for (int64_t i = 0; i < kBlock; ++i) lane[i] = 0;
    for (int64_t i = 0; start + i < count; ++i) lane[i] = in[start + i];
    for (int64_t i = 0; i < kBlock; ++i) lane[i] = function(lane[i]);
    for (int64_t i = 0; start + i < count; ++i) out[start + i] = lane[i];
}

// The largest value; -infinity for none. No value is NaN.
template <class Real>
static inline Real largest_of(const Real* in, int64_t count) {
    Real lane[kBlock];
    for (int64_t i = 0; i < kBlock; ++i) lane[i] = -kInfinity<Real>;
    int64_t start = 0;
    for (; start + kBlock <= count; start += kBlock) {
        for (int64_t i = 0; i < kBlock; ++i) lane[i] = in[start + i] > lane[i] ? in[start + i] : lane[i];
    }
    for (int64_t i = 0; start + i < count; ++i) lane[i] = in[start + i] > lane[i] ? in[start + i] : lane[i];
    for (int64_t width = kBlock / 2; width > 0; width /= 2) {
        for (int64_t i = 0; i < width; ++i) lane[i] = lane[i + width] > lane[i] ? lane[i + width] : lane[i];
    }
    return lane[0];
}

template <class Real>
static inline Real sum_of(const Real* in, int64_t count) {
    Real lane[kBlock] = {};
    int64_t start = 0;
    for (; start + kBlock <= count; start += kBlock) {
        for (int64_t i = 0; i < kBlock; ++i) lane[i] += in[start + i];
    }
    for (int64_t i = 0; start + i < count; ++i) lane[i] += in[start + i];
    for (int64_t width = kBlock / 2; width > 0; width /= 2) {
        for (int64_t i = 0; i < width; ++i) lane[i] += lane[i + width];
    }
    return lane[0];
}

}  // namespace moek::cpu::MOEK_ISA_NAME
