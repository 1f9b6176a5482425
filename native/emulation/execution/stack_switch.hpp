// Switching between stacks.
//
// x86-64 has its own switch of a dozen instructions; elsewhere, and with MOEK_EMULATION_UCONTEXT, it is swapcontext, which
// asks the kernel for the signal mask each time and is much slower.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) || defined(MOEK_EMULATION_UCONTEXT)
#define MOEK_EMULATION_USES_UCONTEXT 1
#include <ucontext.h>
#endif

namespace moek::emulation {

struct StackContext {
#if defined(MOEK_EMULATION_USES_UCONTEXT)
    ucontext_t context;
#else
    void* stack_pointer;
#endif
};

// Makes `context` one that starts `entry` on the given stack. `entry` must not return.
void prepare_context(StackContext& context, void* stack, size_t bytes, void (*entry)());

// Leaves the running stack, to be entered again through `from`, and enters the one of `to`.
void switch_context(StackContext& from, StackContext& to);

}  // namespace moek::emulation
