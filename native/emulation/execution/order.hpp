// Fences, atomics and spinning: what the schedule and ThreadSanitizer have to know of them.
#pragma once

namespace moek::emulation {

// Orders this thread's accesses before it against those after it, for whoever learns of it through an atomic.
void fence();

// Around an atomic operation on `address`. Another thread may run first.
void atomic_begins(void* address);
void atomic_ends(void* address);

// This thread waits for another one to change memory.
void spin();

}  // namespace moek::emulation
