// Shuffles, votes, matches and integer reductions of a warp. They order no memory accesses: only barriers do.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "emulation/execution/failure.hpp"
#include "emulation/execution/rendezvous.hpp"
#include "emulation/execution/thread.hpp"

namespace moek::emulation {

template <class T>
T deposited(const Slot* slots, unsigned lane) {
    T value;
    __builtin_memcpy(&value, slots[lane].bytes, sizeof(T));
    return value;
}

// The value of the lane `source`, or of this one when `source` lies outside its group (`in_group` is false).
template <class T>
T shuffle(uint32_t mask, WarpOperation operation, T value, unsigned source, bool in_group, int width,
          std::source_location where) {
    static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "shuffles move 4 or 8 bytes");
    if (width < 1 || width > 32 || (width & (width - 1)) != 0)
        fail("a shuffle's width is no power of two up to 32", where);
    const Slot* slots = exchange(mask, operation, &value, sizeof(T), where);
    if (!in_group) return value;
    if ((mask >> source & 1u) == 0) fail("a shuffle reads a lane outside its mask", where);
    return deposited<T>(slots, source);
}

// Folds the values of the lanes in `mask`, in the order of their numbers.
template <class T, class Fold>
T reduce(uint32_t mask, WarpOperation operation, T value, Fold fold, std::source_location where) {
    const Slot* slots = exchange(mask, operation, &value, sizeof(T), where);
    bool first = true;
    T result{};
    for (unsigned lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1u) == 0) continue;
        const T other = deposited<T>(slots, lane);
        result = first ? other : fold(result, other);
        first = false;
    }
    return result;
}

template <class T>
unsigned match(uint32_t mask, WarpOperation operation, T value, std::source_location where) {
    static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "matches compare 4 or 8 bytes");
    const Slot* slots = exchange(mask, operation, &value, sizeof(T), where);
    unsigned result = 0;
    for (unsigned lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1u) != 0 && __builtin_memcmp(slots[lane].bytes, &value, sizeof(T)) == 0)
            result |= 1u << lane;
    }
    return result;
}

inline unsigned ballot(uint32_t mask, WarpOperation operation, int predicate, std::source_location where) {
    const Slot* slots = exchange(mask, operation, &predicate, sizeof(predicate), where);
    unsigned result = 0;
    for (unsigned lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1u) != 0 && deposited<int>(slots, lane) != 0) result |= 1u << lane;
    }
    return result;
}

}  // namespace moek::emulation

template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32,
              std::source_location where = std::source_location::current()) {
    const unsigned group = moek::emulation::this_thread().lane & ~(static_cast<unsigned>(width) - 1u);
    return moek::emulation::shuffle(mask, moek::emulation::WarpOperation::kShuffle, value,
                                    group | (static_cast<unsigned>(source) & (static_cast<unsigned>(width) - 1u)), true,
                                    width, where);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned distance, int width = 32,
                 std::source_location where = std::source_location::current()) {
    const unsigned lane = moek::emulation::this_thread().lane;
    const unsigned within = lane & (static_cast<unsigned>(width) - 1u);
    return moek::emulation::shuffle(mask, moek::emulation::WarpOperation::kShuffleUp, value, lane - distance,
                                    distance <= within, width, where);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned distance, int width = 32,
                   std::source_location where = std::source_location::current()) {
    const unsigned lane = moek::emulation::this_thread().lane;
    const unsigned within = lane & (static_cast<unsigned>(width) - 1u);
    return moek::emulation::shuffle(mask, moek::emulation::WarpOperation::kShuffleDown, value, lane + distance,
                                    distance < static_cast<unsigned>(width) - within, width, where);
}
// A lane of an earlier group may be read, one of a later group may not.
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int lane_mask, int width = 32,
                  std::source_location where = std::source_location::current()) {
    const unsigned lane = moek::emulation::this_thread().lane;
    const unsigned source = lane ^ static_cast<unsigned>(lane_mask);
    return moek::emulation::shuffle(mask, moek::emulation::WarpOperation::kShuffleXor, value, source,
                                    source <= (lane | (static_cast<unsigned>(width) - 1u)), width, where);
}

inline unsigned __ballot_sync(uint32_t mask, int predicate,
                              std::source_location where = std::source_location::current()) {
    return moek::emulation::ballot(mask, moek::emulation::WarpOperation::kBallot, predicate, where);
}
inline int __any_sync(uint32_t mask, int predicate, std::source_location where = std::source_location::current()) {
    return moek::emulation::ballot(mask, moek::emulation::WarpOperation::kAny, predicate, where) != 0;
}
inline int __all_sync(uint32_t mask, int predicate, std::source_location where = std::source_location::current()) {
    return moek::emulation::ballot(mask, moek::emulation::WarpOperation::kAll, predicate, where) == mask;
}

// The lanes that hold the same bits.
template <class T>
unsigned __match_any_sync(uint32_t mask, T value, std::source_location where = std::source_location::current()) {
    return moek::emulation::match(mask, moek::emulation::WarpOperation::kMatchAny, value, where);
}
template <class T>
unsigned __match_all_sync(uint32_t mask, T value, int* all,
                          std::source_location where = std::source_location::current()) {
    const unsigned same = moek::emulation::match(mask, moek::emulation::WarpOperation::kMatchAll, value, where);
    *all = same == mask;
    return same == mask ? mask : 0u;
}

#define MOEK_EMULATION_REDUCE(name, type, operation, expression)                                                       \
    inline type name(uint32_t mask, type value, std::source_location where = std::source_location::current()) {        \
        return moek::emulation::reduce(                                                                                \
            mask, moek::emulation::WarpOperation::operation, value, [](type a, type b) -> type { return expression; }, \
            where);                                                                                                    \
    }
// Sums of both kinds wrap around.
MOEK_EMULATION_REDUCE(__reduce_add_sync, unsigned, kReduceAdd, a + b)
MOEK_EMULATION_REDUCE(__reduce_add_sync, int, kReduceAdd,
                      static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b)))
MOEK_EMULATION_REDUCE(__reduce_min_sync, unsigned, kReduceMin, std::min(a, b))
MOEK_EMULATION_REDUCE(__reduce_min_sync, int, kReduceMin, std::min(a, b))
MOEK_EMULATION_REDUCE(__reduce_max_sync, unsigned, kReduceMax, std::max(a, b))
MOEK_EMULATION_REDUCE(__reduce_max_sync, int, kReduceMax, std::max(a, b))
MOEK_EMULATION_REDUCE(__reduce_and_sync, unsigned, kReduceAnd, a& b)
MOEK_EMULATION_REDUCE(__reduce_or_sync, unsigned, kReduceOr, a | b)
MOEK_EMULATION_REDUCE(__reduce_xor_sync, unsigned, kReduceXor, a ^ b)
#undef MOEK_EMULATION_REDUCE
