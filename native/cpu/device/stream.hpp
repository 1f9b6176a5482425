// Streams, events and graphs of the CPU's contexts. A call returns when its work is done: the one stream is null and
// always idle, an event is a time, and there is nothing to capture.
#pragma once

#include <cstdint>

#include "moekernels.h"

namespace moek::cpu {

moek_status stream_create(void* state, void** out_stream);
moek_status stream_synchronize(void* state, void* stream);
moek_status stream_wait_event(void* state, void* stream, void* event);

moek_status event_create(void* state, void** out_event);
moek_status event_destroy(void* state, void* event);
moek_status event_record(void* state, void* event, void* stream);
moek_status event_synchronize(void* state, void* event);
moek_status event_elapsed(void* state, void* start, void* end, double* out_milliseconds);

moek_status graph_capture_begin(void* state, void* stream);
moek_status graph_capture_end(void* state, void* stream, void** out_graph);

}  // namespace moek::cpu
