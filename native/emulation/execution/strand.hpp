// A thread of execution with a stack of its own, and the switch between two of them with what the sanitizers have to know.
#pragma once

#include <cstddef>

#include "emulation/execution/stack_switch.hpp"

namespace moek::emulation {

struct Strand {
    StackContext context;
    const void* stack = nullptr;
    size_t stack_bytes = 0;
    void* fake_stack = nullptr;  // AddressSanitizer's, while another strand runs
    void* identity = nullptr;    // ThreadSanitizer's
};

// Leaves `from` for `to`; returns when someone switches back. `ends`: nobody will.
void switch_strand(Strand& from, Strand& to, bool ends);

// To be called first on a strand that is entered for the first time.
void strand_entered();

}  // namespace moek::emulation
