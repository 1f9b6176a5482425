/**
 * @file simd.hpp
 * @brief One register of the instruction set this file is compiled for, as VecF32 and VecF64.
 *
 * Only for `*_isa.cpp` sources. Both types have the same members, so that kernels are templates over them. `fma` is one
 * rounding where the instruction set has it (AVX2, AVX-512) and two elsewhere; a kernel that always uses it gives the
 * same bits for an element wherever the element lies in a register.
 */
#pragma once

#include <cstdint>
#include <cstring>

#include "core/dtype.hpp"

// Before a loop over registers: unrolled completely, so that an array of them lives in registers.
#if defined(__clang__)
#define MOEK_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define MOEK_UNROLL _Pragma("GCC unroll 16")
#else
#define MOEK_UNROLL
#endif

#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
// GCC 12's AVX-512 intrinsics pass a deliberately undefined register where every lane is overwritten, and warn of it
// wherever they are inlined (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace moek::cpu::MOEK_ISA_NAME {

#if defined(__AVX512F__)

struct VecF32 {
    using Scalar = float;
    using Reg = __m512;
    static constexpr int kLanes = 16;

    static __mmask16 mask(int count) { return static_cast<__mmask16>((1u << count) - 1u); }
    static Reg zero() { return _mm512_setzero_ps(); }
    static Reg set1(float value) { return _mm512_set1_ps(value); }
    static Reg load(const float* p) { return _mm512_loadu_ps(p); }
    static Reg load_partial(const float* p, int count) { return _mm512_maskz_loadu_ps(mask(count), p); }
    static void store(float* p, Reg v) { _mm512_storeu_ps(p, v); }
    static void store_partial(float* p, Reg v, int count) { _mm512_mask_storeu_ps(p, mask(count), v); }
    static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }

    static Reg load(const bf16* p) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
        return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    }
    static Reg load(const f16* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
    static void store(bf16* p, Reg v) {
        const __m512i bits = _mm512_castps_si512(v);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i rounded =
            _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
        const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
        const __mmask16 nan = _mm512_cmpunord_ps_mask(v, v);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                            _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(nan, rounded, quiet)));
    }
    static void store(f16* p, Reg v) {
        // Without optimisation GCC's _mm512_cvtps_ph is a macro whose own mask trips -Wsign-conversion.
        _mm256_storeu_si256(
            reinterpret_cast<__m256i*>(p),
            _mm512_maskz_cvtps_ph(static_cast<__mmask16>(0xffff), v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }

    /** out [lanes, lanes] = in^T; both with a row stride. */
    static void transpose(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
        __m512 a[16], b[16];
        for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(in + i * in_stride);
        for (int i = 0; i < 16; i += 2) {
            b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
            b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
        }
        for (int i = 0; i < 16; i += 4) {
            const auto pair = [&](int j) { return _mm512_castps_pd(b[i + j]); };
            a[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pair(0), pair(2)));
            a[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pair(0), pair(2)));
            a[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pair(1), pair(3)));
            a[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pair(1), pair(3)));
        }
        // a[4 g + c] holds in its 128-bit part q the column 4 q + c of the rows 4 g .. 4 g + 3.
        for (int c = 0; c < 4; ++c) {
            const __m512 low = _mm512_shuffle_f32x4(a[c], a[4 + c], 0x44);
            const __m512 high = _mm512_shuffle_f32x4(a[c], a[4 + c], 0xee);
            const __m512 low2 = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0x44);
            const __m512 high2 = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0xee);
            _mm512_storeu_ps(out + c * out_stride, _mm512_shuffle_f32x4(low, low2, 0x88));
            _mm512_storeu_ps(out + (4 + c) * out_stride, _mm512_shuffle_f32x4(low, low2, 0xdd));
            _mm512_storeu_ps(out + (8 + c) * out_stride, _mm512_shuffle_f32x4(high, high2, 0x88));
            _mm512_storeu_ps(out + (12 + c) * out_stride, _mm512_shuffle_f32x4(high, high2, 0xdd));
        }
    }
};

struct VecF64 {
    using Scalar = double;
    using Reg = __m512d;
    static constexpr int kLanes = 8;

    static __mmask8 mask(int count) { return static_cast<__mmask8>((1u << count) - 1u); }
    static Reg zero() { return _mm512_setzero_pd(); }
    static Reg set1(double value) { return _mm512_set1_pd(value); }
    static Reg load(const double* p) { return _mm512_loadu_pd(p); }
    static Reg load_partial(const double* p, int count) { return _mm512_maskz_loadu_pd(mask(count), p); }
    static void store(double* p, Reg v) { _mm512_storeu_pd(p, v); }
    static void store_partial(double* p, Reg v, int count) { _mm512_mask_storeu_pd(p, mask(count), v); }
    static Reg add(Reg a, Reg b) { return _mm512_add_pd(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm512_mul_pd(a, b); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }

    /** out [lanes, lanes] = in^T; both with a row stride. */
    static void transpose(const double* in, int64_t in_stride, double* out, int64_t out_stride) {
        for (int i = 0; i < kLanes; ++i) {
            for (int j = 0; j < kLanes; ++j) out[j * out_stride + i] = in[i * in_stride + j];
        }
    }
};

#elif defined(__AVX2__)

struct VecF32 {
    using Scalar = float;
    using Reg = __m256;
    static constexpr int kLanes = 8;

    static __m256i mask(int count) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    static Reg zero() { return _mm256_setzero_ps(); }
    static Reg set1(float value) { return _mm256_set1_ps(value); }
    static Reg load(const float* p) { return _mm256_loadu_ps(p); }
    static Reg load_partial(const float* p, int count) { return _mm256_maskload_ps(p, mask(count)); }
    static void store(float* p, Reg v) { _mm256_storeu_ps(p, v); }
    static void store_partial(float* p, Reg v, int count) { _mm256_maskstore_ps(p, mask(count), v); }
    static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }

    static Reg load(const bf16* p) {
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
    static Reg load(const f16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
    static void store(bf16* p, Reg v) {
        const __m256i bits = _mm256_castps_si256(v);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const __m256i rounded =
            _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
        const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
        const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        const __m256i both = _mm256_blendv_epi8(rounded, quiet, nan);
        const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(both, both), 0xd8);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
    }
    static void store(f16* p, Reg v) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                         _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }

    /** out [lanes, lanes] = in^T; both with a row stride. */
    static void transpose(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
        __m256 a[8], b[8];
        for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(in + i * in_stride);
        for (int i = 0; i < 8; i += 2) {
            b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
            b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
        }
        // a[4 g + c] holds in its 128-bit part q the column 4 q + c of the rows 4 g .. 4 g + 3.
        for (int i = 0; i < 8; i += 4) {
            a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
            a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
            a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
            a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
        }
        for (int c = 0; c < 4; ++c) {
            _mm256_storeu_ps(out + c * out_stride, _mm256_permute2f128_ps(a[c], a[4 + c], 0x20));
            _mm256_storeu_ps(out + (4 + c) * out_stride, _mm256_permute2f128_ps(a[c], a[4 + c], 0x31));
        }
    }
};

struct VecF64 {
    using Scalar = double;
    using Reg = __m256d;
    static constexpr int kLanes = 4;

    static __m256i mask(int count) {
        return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
    }
    static Reg zero() { return _mm256_setzero_pd(); }
    static Reg set1(double value) { return _mm256_set1_pd(value); }
    static Reg load(const double* p) { return _mm256_loadu_pd(p); }
    static Reg load_partial(const double* p, int count) { return _mm256_maskload_pd(p, mask(count)); }
    static void store(double* p, Reg v) { _mm256_storeu_pd(p, v); }
    static void store_partial(double* p, Reg v, int count) { _mm256_maskstore_pd(p, mask(count), v); }
    static Reg add(Reg a, Reg b) { return _mm256_add_pd(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm256_mul_pd(a, b); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }

    /** out [lanes, lanes] = in^T; both with a row stride. */
    static void transpose(const double* in, int64_t in_stride, double* out, int64_t out_stride) {
        for (int i = 0; i < kLanes; ++i) {
            for (int j = 0; j < kLanes; ++j) out[j * out_stride + i] = in[i * in_stride + j];
        }
    }
};

#else

/** Baseline: SSE2 on x86-64; elsewhere an array that the compiler turns into its own vectors. */
struct VecF32 {
    using Scalar = float;
    static constexpr int kLanes = 4;

#if defined(__SSE2__) || defined(_M_X64)
    using Reg = __m128;
    static Reg zero() {
        return _mm_setzero_ps();
    }
    static Reg set1(float value) {
        return _mm_set1_ps(value);
    }
    static Reg load(const float* p) {
        return _mm_loadu_ps(p);
    }
    static void store(float* p, Reg v) {
        _mm_storeu_ps(p, v);
    }
    static Reg add(Reg a, Reg b) {
        return _mm_add_ps(a, b);
    }
    static Reg mul(Reg a, Reg b) {
        return _mm_mul_ps(a, b);
    }
    static Reg fma(Reg a, Reg b, Reg c) {
        return _mm_add_ps(_mm_mul_ps(a, b), c);
    }
#else
    struct Reg {
        float lane[kLanes];
    };
    static Reg zero() {
        return {};
    }
    static Reg set1(float value) {
        return {{value, value, value, value}};
    }
    static Reg load(const float* p) {
        return {{p[0], p[1], p[2], p[3]}};
    }
    static void store(float* p, const Reg& v) {
        std::memcpy(p, v.lane, sizeof v.lane);
    }
    static Reg add(const Reg& a, const Reg& b) {
        Reg result;
        for (int i = 0; i < kLanes; ++i) result.lane[i] = a.lane[i] + b.lane[i];
        return result;
    }
    static Reg mul(const Reg& a, const Reg& b) {
        Reg result;
        for (int i = 0; i < kLanes; ++i) result.lane[i] = a.lane[i] * b.lane[i];
        return result;
    }
    static Reg fma(const Reg& a, const Reg& b, const Reg& c) {
        Reg result;
        for (int i = 0; i < kLanes; ++i) result.lane[i] = a.lane[i] * b.lane[i] + c.lane[i];
        return result;
    }
#endif

    static Reg load_partial(const float* p, int count) {
        float lanes[kLanes] = {};
        for (int i = 0; i < count; ++i) lanes[i] = p[i];
        return load(lanes);
    }
    static void store_partial(float* p, Reg v, int count) {
        float lanes[kLanes];
        store(lanes, v);
        for (int i = 0; i < count; ++i) p[i] = lanes[i];
    }
    template <class Storage>
    static Reg load(const Storage* p) {
        const float lanes[kLanes] = {to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3])};
        return load(lanes);
    }
    static void store(bf16* p, Reg v) {
        float lanes[kLanes];
        store(lanes, v);
        for (int i = 0; i < kLanes; ++i) p[i] = to_bf16(lanes[i]);
    }
    static void store(f16* p, Reg v) {
        float lanes[kLanes];
        store(lanes, v);
        for (int i = 0; i < kLanes; ++i) p[i] = to_f16(lanes[i]);
    }

    /** out [lanes, lanes] = in^T; both with a row stride. */
    static void transpose(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
        for (int i = 0; i < kLanes; ++i) {
            for (int j = 0; j < kLanes; ++j) out[j * out_stride + i] = in[i * in_stride + j];
        }
    }
};

struct VecF64 {
    using Scalar = double;
    static constexpr int kLanes = 2;

#if defined(__SSE2__) || defined(_M_X64)
    using Reg = __m128d;
    static Reg zero() {
        return _mm_setzero_pd();
    }
    static Reg set1(double value) {
        return _mm_set1_pd(value);
    }
    static Reg load(const double* p) {
        return _mm_loadu_pd(p);
    }
    static void store(double* p, Reg v) {
        _mm_storeu_pd(p, v);
    }
    static Reg add(Reg a, Reg b) {
        return _mm_add_pd(a, b);
    }
    static Reg mul(Reg a, Reg b) {
        return _mm_mul_pd(a, b);
    }
    static Reg fma(Reg a, Reg b, Reg c) {
        return _mm_add_pd(_mm_mul_pd(a, b), c);
    }
#else
    struct Reg {
        double lane[kLanes];
    };
    static Reg zero() {
        return {};
    }
    static Reg set1(double value) {
        return {{value, value}};
    }
    static Reg load(const double* p) {
        return {{p[0], p[1]}};
    }
    static void store(double* p, const Reg& v) {
        std::memcpy(p, v.lane, sizeof v.lane);
    }
    static Reg add(const Reg& a, const Reg& b) {
        return {{a.lane[0] + b.lane[0], a.lane[1] + b.lane[1]}};
    }
    static Reg mul(const Reg& a, const Reg& b) {
        return {{a.lane[0] * b.lane[0], a.lane[1] * b.lane[1]}};
    }
    static Reg fma(const Reg& a, const Reg& b, const Reg& c) {
        return add(mul(a, b), c);
    }
#endif

    static Reg load_partial(const double* p, int count) {
        double lanes[kLanes] = {};
        for (int i = 0; i < count; ++i) lanes[i] = p[i];
        return load(lanes);
    }
    static void store_partial(double* p, Reg v, int count) {
        double lanes[kLanes];
        store(lanes, v);
        for (int i = 0; i < count; ++i) p[i] = lanes[i];
    }

    /** out [lanes, lanes] = in^T; both with a row stride. */
    static void transpose(const double* in, int64_t in_stride, double* out, int64_t out_stride) {
        for (int i = 0; i < kLanes; ++i) {
            for (int j = 0; j < kLanes; ++j) out[j * out_stride + i] = in[i * in_stride + j];
        }
    }
};

#endif

/** The register type of an accumulator type. */
template <class Acc>
struct VecOf;
template <>
struct VecOf<float> {
    using Type = VecF32;
};
template <>
struct VecOf<double> {
    using Type = VecF64;
};
template <class Acc>
using Vec = typename VecOf<Acc>::Type;

/** Sum of a register's lanes, always in the same order. */
template <class V>
inline typename V::Scalar sum_lanes(typename V::Reg v) {
    typename V::Scalar lane[V::kLanes];
    V::store(lane, v);
    for (int width = V::kLanes / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
    }
    return lane[0];
}

/** Asks for the cache line at p without waiting for it. */
inline void prefetch(const void* p) {
#if defined(__GNUC__)
    __builtin_prefetch(p, 0, 2);
#elif defined(_M_X64)
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
#else
    (void)p;
#endif
}

/** The same for a line that will be written: stores that miss wait for its old contents. */
inline void prefetch_for_write(const void* p) {
#if defined(__GNUC__)
    __builtin_prefetch(p, 1, 3);
#else
    prefetch(p);
#endif
}

}  // namespace moek::cpu::MOEK_ISA_NAME
