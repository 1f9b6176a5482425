/**
 * @file convert.hpp
 * @brief Runs of elements between their storage dtype and the accumulator type. Only for `*_isa.cpp` sources.
 *
 * Acc is float or double. Storage dtypes are the values of moek_dtype. A conversion is exact towards Acc; towards a
 * storage dtype it rounds once, to nearest even.
 */
#pragma once

#include <moekernels.h>

#include "cpu/common/simd.hpp"

namespace moek::cpu::MOEK_ISA_NAME {

inline const void* element(const void* base, int32_t dtype, int64_t index) {
    return static_cast<const char*>(base) + index * static_cast<int64_t>(dtype_size(dtype));
}

inline void* element(void* base, int32_t dtype, int64_t index) {
    return static_cast<char*>(base) + index * static_cast<int64_t>(dtype_size(dtype));
}

/** One element of any dtype. */
template <class Acc>
inline Acc load_element(const void* p, int32_t dtype) {
    switch (dtype) {
        case MOEK_DTYPE_BF16:
            return static_cast<Acc>(to_float(*static_cast<const bf16*>(p)));
        case MOEK_DTYPE_F16:
            return static_cast<Acc>(to_float(*static_cast<const f16*>(p)));
        case MOEK_DTYPE_F64:
            return static_cast<Acc>(*static_cast<const double*>(p));
        default:
            return static_cast<Acc>(*static_cast<const float*>(p));
    }
}

template <class Acc>
inline void store_element(void* p, int32_t dtype, Acc value) {
    switch (dtype) {
        case MOEK_DTYPE_BF16:
            *static_cast<bf16*>(p) = to_bf16(static_cast<float>(value));
            return;
        case MOEK_DTYPE_F16:
            *static_cast<f16*>(p) = to_f16(static_cast<float>(value));
            return;
        case MOEK_DTYPE_F64:
            *static_cast<double*>(p) = static_cast<double>(value);
            return;
        default:
            *static_cast<float*>(p) = static_cast<float>(value);
    }
}

template <class Storage>
inline void load_half_run(const Storage* source, int64_t count, float* target) {
    using V = VecF32;
    int64_t i = 0;
    for (; i + V::kLanes <= count; i += V::kLanes) V::store(target + i, V::load(source + i));
    for (; i < count; ++i) target[i] = to_float(source[i]);
}

/** target[0..count) = source[0..count). */
template <class Acc>
inline void load_run(const void* source, int32_t dtype, int64_t count, Acc* target) {
    using V = Vec<Acc>;
    constexpr bool kDouble = sizeof(Acc) == 8;
    if (dtype == (kDouble ? MOEK_DTYPE_F64 : MOEK_DTYPE_F32)) {
        const Acc* from = static_cast<const Acc*>(source);
        int64_t i = 0;
        for (; i + V::kLanes <= count; i += V::kLanes) V::store(target + i, V::load(from + i));
        if (i < count) {
            const int rest = static_cast<int>(count - i);
            V::store_partial(target + i, V::load_partial(from + i, rest), rest);
        }
        return;
    }
    if constexpr (!kDouble) {
        if (dtype == MOEK_DTYPE_BF16) return load_half_run(static_cast<const bf16*>(source), count, target);
        if (dtype == MOEK_DTYPE_F16) return load_half_run(static_cast<const f16*>(source), count, target);
    }
    for (int64_t i = 0; i < count; ++i) target[i] = load_element<Acc>(element(source, dtype, i), dtype);
}

template <class Storage>
inline void store_half_run(const float* source, int64_t count, Storage* target) {
    using V = VecF32;
    int64_t i = 0;
    for (; i + V::kLanes <= count; i += V::kLanes) V::store(target + i, V::load(source + i));
    if (i < count) {
        // The rest goes through a full register, so that it rounds exactly as the others do.
        const int rest = static_cast<int>(count - i);
        Storage lanes[V::kLanes];
        V::store(lanes, V::load_partial(source + i, rest));
        for (int lane = 0; lane < rest; ++lane) target[i + lane] = lanes[lane];
    }
}

/** target[0..count) = source[0..count), rounded to dtype. */
template <class Acc>
inline void store_run(const Acc* source, int64_t count, int32_t dtype, void* target) {
    constexpr bool kDouble = sizeof(Acc) == 8;
    if (dtype == (kDouble ? MOEK_DTYPE_F64 : MOEK_DTYPE_F32)) {
        return load_run<Acc>(source, dtype, count, static_cast<Acc*>(target));
    }
    if constexpr (!kDouble) {
        if (dtype == MOEK_DTYPE_BF16) return store_half_run(source, count, static_cast<bf16*>(target));
        if (dtype == MOEK_DTYPE_F16) return store_half_run(source, count, static_cast<f16*>(target));
    }
    for (int64_t i = 0; i < count; ++i) store_element<Acc>(element(target, dtype, i), dtype, source[i]);
}

/**
 * target[0..count) = scale * source[0..count) + target[0..count): formed in Acc, by one `fma`, and rounded once. The
 * compiler is free to fuse a separate product and sum in one place and not in another; an explicit `fma` is not.
 */
template <class Acc>
inline void add_scaled_run(Acc scale, const Acc* source, int64_t count, int32_t dtype, void* target) {
    using V = Vec<Acc>;
    const typename V::Reg factor = V::set1(scale);
    constexpr size_t kChunk = 4 * size_t{V::kLanes};
    Acc sum[kChunk];
    const bool in_place = dtype == (sizeof(Acc) == 8 ? MOEK_DTYPE_F64 : MOEK_DTYPE_F32);
    for (int64_t start = 0; start < count; start += int64_t{kChunk}) {
        const int64_t n = count - start < int64_t{kChunk} ? count - start : int64_t{kChunk};
        void* const to = element(target, dtype, start);
        if (!in_place) load_run<Acc>(to, dtype, n, sum);
        Acc* const values = in_place ? static_cast<Acc*>(to) : sum;
        int64_t i = 0;
        for (; i + V::kLanes <= n; i += V::kLanes) {
            V::store(values + i, V::fma(factor, V::load(source + start + i), V::load(values + i)));
        }
        if (i < n) {
            const int rest = static_cast<int>(n - i);
            const auto added =
                V::fma(factor, V::load_partial(source + start + i, rest), V::load_partial(values + i, rest));
            V::store_partial(values + i, added, rest);
        }
        if (!in_place) store_run<Acc>(sum, n, dtype, to);
    }
}

/** target[0..count) = scale * source[0..count), rounded to dtype. `target` may be `source`. */
template <class Acc>
inline void store_scaled_run(Acc scale, const Acc* source, int64_t count, int32_t dtype, void* target) {
    using V = Vec<Acc>;
    const typename V::Reg factor = V::set1(scale);
    constexpr size_t kChunk = 4 * size_t{V::kLanes};
    Acc product[kChunk];
    const bool in_place = dtype == (sizeof(Acc) == 8 ? MOEK_DTYPE_F64 : MOEK_DTYPE_F32);
    for (int64_t start = 0; start < count; start += int64_t{kChunk}) {
        const int64_t n = count - start < int64_t{kChunk} ? count - start : int64_t{kChunk};
        void* const to = element(target, dtype, start);
        Acc* const values = in_place ? static_cast<Acc*>(to) : product;
        int64_t i = 0;
        for (; i + V::kLanes <= n; i += V::kLanes) {
            V::store(values + i, V::mul(factor, V::load(source + start + i)));
        }
        if (i < n) {
            const int rest = static_cast<int>(n - i);
            V::store_partial(values + i, V::mul(factor, V::load_partial(source + start + i, rest)), rest);
        }
        if (!in_place) store_run<Acc>(product, n, dtype, to);
    }
}

}  // namespace moek::cpu::MOEK_ISA_NAME
