// Maths beyond <math.h>, which already has what CUDA has under the same name: expf, fmaxf (a NaN loses), fmaf, ...
//
// The fast functions take the same path as the hardware's, so that their errors grow in the same places: __expf through
// a rounded x * log2(e), __fdividef through a reciprocal.
#pragma once

#include <math.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

inline float __fadd_rn(float a, float b) {
    return a + b;
}
inline float __fsub_rn(float a, float b) {
    return a - b;
}
inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fmaf_rn(float a, float b, float c) {
    return std::fma(a, b, c);
}
inline float __fdiv_rn(float a, float b) {
    return a / b;
}
inline float __frcp_rn(float value) {
    return 1.0f / value;
}
inline float __fsqrt_rn(float value) {
    return std::sqrt(value);
}
inline float rsqrtf(float value) {
    return static_cast<float>(1.0 / std::sqrt(static_cast<double>(value)));
}
inline float __frsqrt_rn(float value) {
    return rsqrtf(value);
}
inline float __expf(float value) {
    return std::exp2(value * 1.442695041f);
}
inline float __logf(float value) {
    return std::log2(value) * 0.6931471806f;
}
inline float __log2f(float value) {
    return std::log2(value);
}
// Zero where the reciprocal of the denominator would be subnormal, as CUDA documents it.
inline float __fdividef(float a, float b) {
    if (std::fabs(b) > 0x1p126f && !std::isnan(a)) {
        return std::isinf(a) ? std::numeric_limits<float>::quiet_NaN()
                             : std::copysign(0.0f, a * std::copysign(1.0f, b));
    }
    return a * (1.0f / b);
}
// Clamped to 0..1; NaN becomes 0.
inline float __saturatef(float value) {
    return value >= 1 ? 1.0f : value > 0 ? value : 0.0f;
}

namespace moek::emulation {

// A float that has been rounded to a whole number, as an integer: clamped to the type's range, 0 for NaN.
template <class Integer>
Integer whole_to_integer(float whole) {
    if (std::isnan(whole)) return 0;
    const double value = whole;
    if (value <= static_cast<double>(std::numeric_limits<Integer>::min())) return std::numeric_limits<Integer>::min();
    if (value >= static_cast<double>(std::numeric_limits<Integer>::max())) return std::numeric_limits<Integer>::max();
    return static_cast<Integer>(value);
}

}  // namespace moek::emulation

inline int __float2int_rn(float value) {
    return moek::emulation::whole_to_integer<int>(std::nearbyint(value));
}
inline int __float2int_rz(float value) {
    return moek::emulation::whole_to_integer<int>(std::trunc(value));
}
inline int __float2int_rd(float value) {
    return moek::emulation::whole_to_integer<int>(std::floor(value));
}
inline int __float2int_ru(float value) {
    return moek::emulation::whole_to_integer<int>(std::ceil(value));
}
inline unsigned __float2uint_rn(float value) {
    return moek::emulation::whole_to_integer<unsigned>(std::nearbyint(value));
}
inline unsigned __float2uint_rz(float value) {
    return moek::emulation::whole_to_integer<unsigned>(std::trunc(value));
}
inline float __int2float_rn(int value) {
    return static_cast<float>(value);
}
inline float __uint2float_rn(unsigned value) {
    return static_cast<float>(value);
}

// CUDA's own min and max, in the global namespace.
inline int min(int a, int b) {
    return std::min(a, b);
}
inline int max(int a, int b) {
    return std::max(a, b);
}
inline unsigned min(unsigned a, unsigned b) {
    return std::min(a, b);
}
inline unsigned max(unsigned a, unsigned b) {
    return std::max(a, b);
}
inline long min(long a, long b) {
    return std::min(a, b);
}
inline long max(long a, long b) {
    return std::max(a, b);
}
inline unsigned long min(unsigned long a, unsigned long b) {
    return std::min(a, b);
}
inline unsigned long max(unsigned long a, unsigned long b) {
    return std::max(a, b);
}
inline long long min(long long a, long long b) {
    return std::min(a, b);
}
inline long long max(long long a, long long b) {
    return std::max(a, b);
}
inline unsigned long long min(unsigned long long a, unsigned long long b) {
    return std::min(a, b);
}
inline unsigned long long max(unsigned long long a, unsigned long long b) {
    return std::max(a, b);
}
inline float min(float a, float b) {
    return std::fmin(a, b);
}
inline float max(float a, float b) {
    return std::fmax(a, b);
}
