#include "emulation/execution/order.hpp"

#include "emulation/execution/sanitizers.hpp"
#include "emulation/execution/scheduler.hpp"

namespace moek::emulation {
namespace {

// A loop that polls goes round this often before others get a turn.
constexpr unsigned kSpinsPerYield = 32;

}  // namespace

// C++'s rules for fences and relaxed atomics, in terms of ThreadSanitizer's locks: an atomic after a fence publishes what
// came before the fence, and a fence after an atomic sees what the others published at that address.
void fence() {
    Fiber& fiber = Scheduler::instance().current();
    fiber.fenced = true;
    const unsigned count = fiber.atomics < 4 ? fiber.atomics : 4;
    for (unsigned i = 0; i < count; ++i) order_acquire(fiber.atomic_addresses[i]);
    fiber.atomics = 0;
}

void atomic_begins(void* address) {
    Scheduler& scheduler = Scheduler::instance();
    scheduler.maybe_preempt();
    Fiber& fiber = scheduler.current();
    if (++fiber.spins % kSpinsPerYield == 0) scheduler.yield();
    if (fiber.fenced) order_release(address);
}

void atomic_ends(void* address) {
    Fiber& fiber = Scheduler::instance().current();
    fiber.atomic_addresses[fiber.atomics++ % 4] = address;
}

void spin() {
    Scheduler::instance().yield();
}

}  // namespace moek::emulation
