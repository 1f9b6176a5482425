#include "emulation/execution/stack_switch.hpp"

#include <cstdint>

#if defined(MOEK_EMULATION_USES_UCONTEXT)

namespace moek::emulation {

void prepare_context(StackContext& context, void* stack, size_t bytes, void (*entry)()) {
    getcontext(&context.context);
    context.context.uc_stack.ss_sp = stack;
    context.context.uc_stack.ss_size = bytes;
    context.context.uc_link = nullptr;
    makecontext(&context.context, entry, 0);
}

void switch_context(StackContext& from, StackContext& to) {
    swapcontext(&from.context, &to.context);
}

}  // namespace moek::emulation

#else

// Saves the registers that a function must preserve, and the stack pointer; loads those of the other stack. Its `ret`
// goes to where that stack called this function, or to the start of a new one.
extern "C" void moek_emulation_switch_stack(void** from, void* to);

asm(R"(
    .text
    .globl moek_emulation_switch_stack
    .hidden moek_emulation_switch_stack
    .type moek_emulation_switch_stack, @function
moek_emulation_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size moek_emulation_switch_stack, . - moek_emulation_switch_stack
)");

namespace moek::emulation {

void prepare_context(StackContext& context, void* stack, size_t bytes, void (*entry)()) {
    // From the top: the return address that `entry` must not use (zero ends a debugger's walk, and puts the stack where the
    // ABI wants it at a function's first instruction), the address `ret` takes, and six registers.
    uintptr_t* top = reinterpret_cast<uintptr_t*>(static_cast<unsigned char*>(stack) + bytes);
    *--top = 0;
    *--top = reinterpret_cast<uintptr_t>(entry);
    for (int i = 0; i < 6; ++i) *--top = 0;
    context.stack_pointer = top;
}

void switch_context(StackContext& from, StackContext& to) {
    moek_emulation_switch_stack(&from.stack_pointer, to.stack_pointer);
}

}  // namespace moek::emulation

#endif
