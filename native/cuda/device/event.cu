#include <memory>
#include <string>

#include "cuda/common/device.hpp"
#include "cuda/common/error.hpp"
#include "cuda/device/event.hpp"
#include "cuda/device/stream.hpp"

namespace moek::cuda {
namespace {

void wait_for(const char* argument, const Event& event) {
    if (!event.has_time) {
        throw Error(
            MOEK_STATUS_CODE_INVALID_ARGUMENT,
            std::string(argument) + ": got an event without a time, expected one that was recorded outside a capture");
    }
    check(cudaEventSynchronize(event.handle), "cudaEventSynchronize");
}

}  // namespace

moek_status event_create(void* state, void** out_event) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        auto event = std::make_unique<Event>();
        check(cudaEventCreate(&event->handle), "cudaEventCreate");
        *out_event = event.release();
    });
}

moek_status event_destroy(void* state, void* event) {
    return guarded([&] {
        const std::unique_ptr<Event> owned(&event_of(event));
        const DeviceGuard guard(device_of(state));
        check(cudaEventDestroy(owned->handle), "cudaEventDestroy");
    });
}

moek_status event_record(void* state, void* event, void* stream) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        const bool has_time = !is_captured(stream);
        check(cudaEventRecord(event_of(event).handle, stream_of(stream)), "cudaEventRecord");
        event_of(event).has_time = has_time;
    });
}

moek_status event_synchronize(void* state, void* event) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        check(cudaEventSynchronize(event_of(event).handle), "cudaEventSynchronize");
    });
}

moek_status event_elapsed(void* state, void* start, void* end, double* out_milliseconds) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        wait_for("start", event_of(start));
        wait_for("end", event_of(end));
        float milliseconds = 0;
        check(cudaEventElapsedTime(&milliseconds, event_of(start).handle, event_of(end).handle),
              "cudaEventElapsedTime");
        *out_milliseconds = milliseconds;
    });
}

}  // namespace moek::cuda
