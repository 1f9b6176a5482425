// The CPU backend's part of a context.
#pragma once

#include "cpu/common/isa.hpp"
#include "cpu/common/thread_pool.hpp"

namespace moek::cpu {

struct Context {
    Context(int32_t thread_count, int32_t chosen_isa, moek_parallel_callback parallel = nullptr)
        : isa(chosen_isa), pool(thread_count, parallel) {}

    const int32_t isa;  // one of moek_isa, never AUTO
    ThreadPool pool;
};

// Logical processors that this process may use.
int32_t available_cores();

inline Context& context_of(void* state) {
    return *static_cast<Context*>(state);
}

}  // namespace moek::cpu
