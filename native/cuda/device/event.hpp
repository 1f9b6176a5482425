// Events: the table's functions for them.
#pragma once

#include <cuda_runtime.h>

#include <atomic>

#include "core/backend.hpp"

namespace moek::cuda {

struct Event {
    cudaEvent_t handle = nullptr;
    // Recorded last outside a capture. CUDA's own answer for an event without a time does not say so.
    std::atomic<bool> has_time = false;
};

inline Event& event_of(void* event) {
    return *static_cast<Event*>(event);
}

moek_status event_create(void* state, void** out_event);
moek_status event_destroy(void* state, void* event);
moek_status event_record(void* state, void* event, void* stream);
moek_status event_synchronize(void* state, void* event);
moek_status event_elapsed(void* state, void* start, void* end, double* out_milliseconds);

}  // namespace moek::cuda
