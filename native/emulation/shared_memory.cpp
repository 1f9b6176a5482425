#include "emulation/shared_memory.hpp"

#include <cstdint>
#include <string>

#include "emulation/execution/scheduler.hpp"

namespace moek::emulation {

void* static_shared(const void* identity, size_t bytes, std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    SharedArena& shared = scheduler.current().block->shared;
    void* array = shared.array(identity, bytes);
    if (array == nullptr || shared.static_bytes() > scheduler.shape().static_limit) {
        scheduler.fail(cudaErrorInvalidValue, where, [&] {
            return "the kernel declares at least " + std::to_string(shared.static_bytes()) +
                   " bytes of shared memory beside " + std::to_string(shared.dynamic_bytes()) +
                   " dynamic ones, expected at most " + std::to_string(scheduler.shape().static_limit);
        });
    }
    return array;
}

void* dynamic_shared(size_t alignment) {
    SharedArena& shared = Scheduler::instance().current().block->shared;
    shared.declare_dynamic(alignment);
    return shared.array(nullptr, 0);
}

void check_shared(const void* address, size_t bytes, size_t alignment, const char* operation,
                  std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    if (reinterpret_cast<uintptr_t>(address) % alignment != 0) {
        scheduler.fail(cudaErrorMisalignedAddress, where, [&] {
            return std::string(operation) + ": the shared address is not aligned to " + std::to_string(alignment) +
                   " bytes";
        });
    }
    if (!scheduler.current().block->shared.holds(address, bytes)) {
        scheduler.fail(cudaErrorIllegalAddress, where,
                       [&] { return std::string(operation) + ": the address lies in no shared array of this block"; });
    }
}

}  // namespace moek::emulation
