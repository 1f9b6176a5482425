#include "cpu/device/stream.hpp"

#include <atomic>
#include <chrono>
#include <limits>

#include "core/check.hpp"
#include "core/error.hpp"

namespace moek::cpu {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::min();

struct Event {
    std::atomic<int64_t> nanoseconds = kNever;
};

int64_t time_of(const char* argument, void* event) {
    const int64_t time = static_cast<Event*>(event)->nanoseconds;
    if (time == kNever) fail_argument(argument, "an event that was never recorded", "a recorded one");
    return time;
}

[[noreturn]] void fail_no_graphs() {
    throw Error(MOEK_STATUS_CODE_UNSUPPORTED, "graphs need a CUDA context: the CPU has no streams to capture");
}

}  // namespace

moek_status stream_create(void*, void** out_stream) {
    *out_stream = nullptr;
    return MOEK_STATUS_CODE_OK;
}

moek_status stream_synchronize(void*, void*) {
    return MOEK_STATUS_CODE_OK;
}

moek_status stream_wait_event(void*, void*, void*) {
    return MOEK_STATUS_CODE_OK;
}

moek_status event_create(void*, void** out_event) {
    *out_event = new Event;
    return MOEK_STATUS_CODE_OK;
}

moek_status event_destroy(void*, void* event) {
    delete static_cast<Event*>(event);
    return MOEK_STATUS_CODE_OK;
}

moek_status event_record(void*, void* event, void*) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    static_cast<Event*>(event)->nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    return MOEK_STATUS_CODE_OK;
}

moek_status event_synchronize(void*, void*) {
    return MOEK_STATUS_CODE_OK;
}

moek_status event_elapsed(void*, void* start, void* end, double* out_milliseconds) {
    const int64_t started = time_of("start", start);
    *out_milliseconds = static_cast<double>(time_of("end", end) - started) * 1e-6;
    return MOEK_STATUS_CODE_OK;
}

moek_status graph_capture_begin(void*, void*) {
    fail_no_graphs();
}

moek_status graph_capture_end(void*, void*, void**) {
    fail_no_graphs();
}

}  // namespace moek::cpu
