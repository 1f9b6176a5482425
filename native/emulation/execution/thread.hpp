// What a kernel sees of the CUDA thread that runs it.
#pragma once

#include "emulation/language/vector_types.hpp"

namespace moek::emulation {

struct Thread {
    uint3 thread_index;
    uint3 block_index;
    dim3 block_size;
    dim3 grid_size;
    unsigned lane;
    unsigned warp;
};

namespace detail {
// Null outside of kernels. A kernel's threads never leave the thread of the operating system that launched it.
extern constinit thread_local Thread* current_thread;
}  // namespace detail

inline const Thread& this_thread() {
    return *detail::current_thread;
}

}  // namespace moek::emulation
