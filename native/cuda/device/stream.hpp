// Streams: the table's functions for them, and what the others ask about one.
#pragma once

#include "core/backend.hpp"

namespace moek::cuda {

// Whether work that is queued on the stream becomes part of a graph.
bool is_captured(void* stream);
// Throws INVALID_ARGUMENT while the stream is captured, before CUDA would spoil the capture. `why` ends the text.
void require_not_captured(void* stream, const char* why);

moek_status stream_create(void* state, void** out_stream);
moek_status stream_destroy(void* state, void* stream);
moek_status stream_synchronize(void* state, void* stream);
moek_status stream_wait_event(void* state, void* stream, void* event);

}  // namespace moek::cuda
