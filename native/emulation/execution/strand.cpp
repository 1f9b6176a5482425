#include "emulation/execution/strand.hpp"

#include "emulation/execution/sanitizers.hpp"

namespace moek::emulation {
namespace {

#if defined(MOEK_EMULATION_ASAN)
// The strand left last. AddressSanitizer alone knows where the launching thread's stack lies, and tells after the switch.
thread_local Strand* left = nullptr;

void finish_switch(void* fake_stack) {
    __sanitizer_finish_switch_fiber(fake_stack, &left->stack, &left->stack_bytes);
}
#endif

}  // namespace

void switch_strand(Strand& from, Strand& to, [[maybe_unused]] bool ends) {
#if defined(MOEK_EMULATION_ASAN)
    left = &from;
    __sanitizer_start_switch_fiber(ends ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#endif
#if defined(MOEK_EMULATION_TSAN)
    constexpr unsigned kOrdersNothing = 1;
    __tsan_switch_to_fiber(to.identity, kOrdersNothing);
#endif
    switch_context(from.context, to.context);
#if defined(MOEK_EMULATION_ASAN)
    finish_switch(from.fake_stack);
#endif
}

void strand_entered() {
#if defined(MOEK_EMULATION_ASAN)
    finish_switch(nullptr);
#endif
}

}  // namespace moek::emulation
