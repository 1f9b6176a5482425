// Shared memory of a block.
//
//   MOEK_SHARED(type, name, count)       an array `type name[count]`, the same for all threads of the block
//   MOEK_DYNAMIC_SHARED(type, name)      a pointer `type* name` to the bytes that the launch asked for
//   MOEK_DYNAMIC_SHARED_1024(type, name) the same, where swizzled tensor copies may go
//
// They are aligned to 128 bytes, the last to 1024, hold garbage at first (under emulation: NaN), and stand inside a function.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#if defined(__CUDACC__)

#define MOEK_SHARED(type, name, count) __shared__ __align__(128) type name[count]

#define MOEK_DYNAMIC_SHARED(type, name)                                   \
    extern __shared__ __align__(128) unsigned char moek_dynamic_shared[]; \
    type* const name = reinterpret_cast<type*>(moek_dynamic_shared)

#define MOEK_DYNAMIC_SHARED_1024(type, name)                                    \
    extern __shared__ __align__(1024) unsigned char moek_dynamic_shared_1024[]; \
    type* const name = reinterpret_cast<type*>(moek_dynamic_shared_1024)

#else

#include "emulation/shared_memory.hpp"

// The address of the static object tells one array of a kernel from another.
#define MOEK_SHARED(type, name, count)                 \
    static const char name##_identity = 0;             \
    type(&name)[count] = *static_cast<type(*)[count]>( \
        ::moek::emulation::static_shared(&name##_identity, sizeof(type) * static_cast<size_t>(count)))

#define MOEK_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::moek::emulation::dynamic_shared(128))
#define MOEK_DYNAMIC_SHARED_1024(type, name) \
    type* const name = static_cast<type*>(::moek::emulation::dynamic_shared(1024))

#endif

namespace moek::cuda {

#if defined(__CUDACC__)
// The address that instructions for shared memory take.
__device__ __forceinline__ uint32_t shared_address(const void* generic) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(generic));
}
#endif

}  // namespace moek::cuda
