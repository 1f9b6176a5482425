#include "emulation/async_copy.hpp"

#include <cstdint>
#include <string>

#include "emulation/execution/scheduler.hpp"
#include "emulation/shared_memory.hpp"

namespace moek::emulation {

bool issue_async_copy(const PendingCopy& copy, std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    check_shared(copy.target, copy.bytes, copy.bytes, "cp.async", where);
    if (copy.valid_bytes > copy.bytes) {
        scheduler.fail(cudaErrorLaunchFailure, where, [&] {
            return "cp.async: valid_bytes is " + std::to_string(static_cast<int>(copy.valid_bytes)) + ", expected 0.." +
                   std::to_string(copy.bytes);
        });
    }
    if (reinterpret_cast<uintptr_t>(copy.source) % copy.bytes != 0) {
        scheduler.fail(cudaErrorMisalignedAddress, where, [&] {
            return "cp.async: the global address is not aligned to " + std::to_string(copy.bytes) + " bytes";
        });
    }
    if (scheduler.coin()) return true;
    if (!scheduler.current().copies.add(copy)) {
        scheduler.fail(cudaErrorLaunchFailure, where, [&] {
            return "cp.async: more than " + std::to_string(AsyncCopies::kCapacity) + " copies of one thread under way";
        });
    }
    return false;
}

const PendingCopy* due_async_copies(unsigned pending, unsigned& count) {
    return Scheduler::instance().current().copies.take_due(pending, count);
}

void async_copy_commit() {
    Scheduler::instance().current().copies.commit();
}

}  // namespace moek::emulation
