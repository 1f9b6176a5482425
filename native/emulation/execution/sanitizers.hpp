// The parts of the sanitizers' interfaces that stack switching and shared memory need; no-ops in other builds.
//
// MOEK_EMULATION_TSAN says that kernels are compiled for ThreadSanitizer. These files are not: they tell it what orders
// what, and their own accesses must stay out of its sight.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define MOEK_EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MOEK_EMULATION_ASAN 1
#endif
#endif

#if defined(MOEK_EMULATION_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(MOEK_EMULATION_TSAN)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace moek::emulation {

#if defined(MOEK_EMULATION_TSAN)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

inline void poison([[maybe_unused]] const void* address, [[maybe_unused]] size_t bytes) {
#if defined(MOEK_EMULATION_ASAN)
    __asan_poison_memory_region(address, bytes);
#endif
}

inline void unpoison([[maybe_unused]] const void* address, [[maybe_unused]] size_t bytes) {
#if defined(MOEK_EMULATION_ASAN)
    __asan_unpoison_memory_region(address, bytes);
#endif
}

// What happened before a release at an address happened before what follows an acquire there.
inline void order_release([[maybe_unused]] void* address) {
#if defined(MOEK_EMULATION_TSAN)
    __tsan_release(address);
#endif
}

inline void order_acquire([[maybe_unused]] void* address) {
#if defined(MOEK_EMULATION_TSAN)
    __tsan_acquire(address);
#endif
}

}  // namespace moek::emulation
