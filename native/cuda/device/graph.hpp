// Graphs: the table's functions for them.
#pragma once

#include "core/backend.hpp"

namespace moek::cuda {

moek_status graph_capture_begin(void* state, void* stream);
moek_status graph_capture_end(void* state, void* stream, void** out_graph);
moek_status graph_node_count(void* state, const void* graph, uint64_t* out_count);
moek_status graph_launch(void* state, void* graph, void* stream);
moek_status graph_destroy(void* state, void* graph);

}  // namespace moek::cuda
