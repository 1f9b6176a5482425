// cp.async: copies from global to shared memory that happen some time between their issue and the wait for them.
//
// In order they happen at the wait; at random each happens at its issue or at the wait. Only the first shows a missing wait,
// only the second a missing barrier before the target is reused.
#pragma once

#include <source_location>

#include "emulation/execution/async_copies.hpp"

namespace moek::emulation {

// Checks the copy and queues it; true when it is to be made at once instead.
bool issue_async_copy(const PendingCopy& copy, std::source_location where);
// The copies that are due when `pending` groups may stay.
const PendingCopy* due_async_copies(unsigned pending, unsigned& count);
void async_copy_commit();

// Here and not in the library, so that the sanitizers see the accesses as the kernel's.
inline void make_copy(const PendingCopy& copy) {
    unsigned char* target = static_cast<unsigned char*>(copy.target);
    const unsigned char* source = static_cast<const unsigned char*>(copy.source);
    for (unsigned i = 0; i < copy.bytes; ++i) {
        target[i] = i < copy.valid_bytes ? source[i] : static_cast<unsigned char>(0);
    }
}

template <int kBytes>
void async_copy(void* target, const void* source, int valid_bytes,
                std::source_location where = std::source_location::current()) {
    const PendingCopy copy = {target, source, static_cast<unsigned>(kBytes), static_cast<unsigned>(valid_bytes), 0};
    if (issue_async_copy(copy, where)) make_copy(copy);
}

inline void async_copy_wait(int pending) {
    unsigned count = 0;
    const PendingCopy* copies = due_async_copies(static_cast<unsigned>(pending), count);
    for (unsigned i = 0; i < count; ++i) make_copy(copies[i]);
}

}  // namespace moek::emulation
