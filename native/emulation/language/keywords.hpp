// CUDA's keywords. `__shared__` and `__constant__` are missing on purpose: shared memory goes through the macros of
// cuda/common/shared_memory.hpp, so that the emulation can watch it. `__noinline__` is missing because the standard
// library's own headers use the name.
#pragma once

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))

#if !defined(__clang__)
// Under UBSan an assumption that does not hold is reported.
#define __builtin_assume(condition) ((condition) ? static_cast<void>(0) : __builtin_unreachable())
#endif
