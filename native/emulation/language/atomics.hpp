// Integer atomics, relaxed as CUDA's are, each a point at which another thread may be scheduled. There are none for
// floats: kernels here are deterministic.
#pragma once

#include <type_traits>

#include "emulation/execution/order.hpp"

namespace moek::emulation {

// `change` maps the value found to the one to store. Returns the value found.
template <class T, class Change>
T atomic_change(T* address, Change change) {
    static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "atomics work on 32 or 64 bits");
    atomic_begins(address);
    T found = __atomic_load_n(address, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(address, &found, change(found), true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    atomic_ends(address);
    return found;
}

}  // namespace moek::emulation

// The forms with `_block` are atomic for the block's threads only; here they are the same.
#define MOEK_EMULATION_ATOMIC(name, type, expression)                                                   \
    inline type name(type* address, type value) {                                                       \
        return moek::emulation::atomic_change(address, [=](type found) -> type { return expression; }); \
    }                                                                                                   \
    inline type name##_block(type* address, type value) {                                               \
        return name(address, value);                                                                    \
    }
#define MOEK_EMULATION_ATOMICS(type, wide)                                                                            \
    MOEK_EMULATION_ATOMIC(atomicAdd, type, static_cast<type>(static_cast<wide>(found) + static_cast<wide>(value)))    \
    MOEK_EMULATION_ATOMIC(atomicMax, type, found > value ? found : value)                                             \
    MOEK_EMULATION_ATOMIC(atomicMin, type, found < value ? found : value)                                             \
    MOEK_EMULATION_ATOMIC(atomicAnd, type, found& value)                                                              \
    MOEK_EMULATION_ATOMIC(atomicOr, type, found | value)                                                              \
    MOEK_EMULATION_ATOMIC(atomicXor, type, found ^ value)                                                             \
    MOEK_EMULATION_ATOMIC(atomicExch, type, (static_cast<void>(found), value))                                        \
    inline type atomicCAS(type* address, type compare, type value) {                                                  \
        return moek::emulation::atomic_change(address, [=](type found) { return found == compare ? value : found; }); \
    }                                                                                                                 \
    inline type atomicCAS_block(type* address, type compare, type value) {                                            \
        return atomicCAS(address, compare, value);                                                                    \
    }
MOEK_EMULATION_ATOMICS(int, unsigned)
MOEK_EMULATION_ATOMICS(unsigned, unsigned)
MOEK_EMULATION_ATOMICS(unsigned long long, unsigned long long)
#undef MOEK_EMULATION_ATOMICS
#undef MOEK_EMULATION_ATOMIC

inline int atomicSub(int* address, int value) {
    return atomicAdd(address, static_cast<int>(0u - static_cast<unsigned>(value)));
}
inline unsigned atomicSub(unsigned* address, unsigned value) {
    return atomicAdd(address, 0u - value);
}
// Counts up to `limit` and starts again at 0.
inline unsigned atomicInc(unsigned* address, unsigned limit) {
    return moek::emulation::atomic_change(address, [=](unsigned found) { return found >= limit ? 0u : found + 1; });
}
