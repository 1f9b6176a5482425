// The boundary between the C ABI and a backend: a table of C functions, one group per op.
//
// The CPU backend (cpu/backend.cpp) fills a table inside this library. The CUDA backend is a library of its own that
// exports `moek_cuda_backend`, a moek_backend_entry, and nothing else.
//
// What a backend may rely on: every argument has been checked, and the struct it gets is a *resolved* copy: full size,
// zero strides replaced by dense ones, and 0 replaced by its meaning (temperature, weight_scale, rank_partition: 1;
// k with SELECT_ALL: E). The workspace holds at least the bytes that the backend asked for. What it has to check
// itself: what only the data can tell (ids in range, NaN with STRICT), and what it does not offer (UNSUPPORTED).
//
// No C++ exception and no C++ object crosses the boundary to another library. A function that fails calls
// `moek_backend_host::fail` with a text and returns its status. (The CPU backend lives in this library and may throw.)
#pragma once

#include <stdint.h>

#include "moekernels.h"

extern "C" {

// Raised with every change to the structs below.
enum { MOEK_BACKEND_VERSION = 2 };

// What the core offers to a backend.
typedef struct moek_backend_host {
    uint32_t struct_size;
    uint32_t version;  // MOEK_BACKEND_VERSION
    // Sets the text that moek_last_error returns on this thread.
    void (*fail)(const char* message);
} moek_backend_host;

// Writes a log message of the context being created or used; `sink` is the one given to `state_create`.
typedef void (*moek_backend_log)(void* sink, int32_t level, const char* message);

// Slots of ops that a backend does not offer are null; the call then fails with UNSUPPORTED.
typedef struct moek_backend {
    uint32_t struct_size;
    uint32_t version;     // MOEK_BACKEND_VERSION
    const char* targets;  // what machine code is inside, for moek_build_info: "sm_80,sm_90a"

    moek_status (*device_count)(int32_t* out_count);
    // struct_size of `out_info` is set; the rest is zero.
    moek_status (*device_query)(int32_t device_index, moek_device_info* out_info);

    // The backend's part of a context. Fills thread_count and isa of `info`. `options` does not outlive the call, and
    // `log` may be called until `state_destroy` returns.
    moek_status (*state_create)(const moek_context_options* options, moek_backend_log log, void* sink,
                                moek_context_info* info, void** out_state);
    void (*state_destroy)(void* state);

    moek_status (*gate_forward_workspace)(void* state, const moek_gate_args* args, uint64_t* out_bytes);
    moek_status (*gate_forward)(void* state, const moek_gate_args* args, void* workspace, void* stream);
    moek_status (*gate_backward_workspace)(void* state, const moek_gate_args* args, uint64_t* out_bytes);
    moek_status (*gate_backward)(void* state, const moek_gate_args* args, void* workspace, void* stream);
    moek_status (*gate_bias_update)(void* state, const moek_gate_bias_update_args* args, void* stream);

    moek_status (*rank_lora_forward_workspace)(void* state, const moek_rank_lora_args* args, uint64_t* out_bytes);
    moek_status (*rank_lora_forward)(void* state, const moek_rank_lora_args* args, void* workspace, void* stream);
    moek_status (*rank_lora_backward_workspace)(void* state, const moek_rank_lora_args* args, uint64_t* out_bytes);
    moek_status (*rank_lora_backward)(void* state, const moek_rank_lora_args* args, void* workspace, void* stream);

    moek_status (*core_merge_forward_workspace)(void* state, const moek_core_merge_args* args, uint64_t* out_bytes);
    moek_status (*core_merge_forward)(void* state, const moek_core_merge_args* args, void* workspace, void* stream);
    moek_status (*core_merge_backward_workspace)(void* state, const moek_core_merge_args* args, uint64_t* out_bytes);
    moek_status (*core_merge_backward)(void* state, const moek_core_merge_args* args, void* workspace, void* stream);

    moek_status (*dropout_mask)(void* state, const moek_dropout_args* args, void* stream);

    // Memory, streams, events and graphs. Sizes, kinds, overlaps and owners have been checked; no size is 0, and no
    // memory, event or graph is null. Events and graphs are the backend's own pointers.
    moek_status (*memory_query)(void* state, uint64_t* out_free, uint64_t* out_total);
    moek_status (*memory_allocate)(void* state, uint64_t bytes, void** out_memory);
    moek_status (*memory_free)(void* state, void* memory);
    moek_status (*memory_copy)(void* state, void* destination, const void* source, uint64_t bytes, int32_t kind,
                               void* stream);
    moek_status (*memory_set)(void* state, void* destination, int32_t value, uint64_t bytes, void* stream);

    moek_status (*stream_create)(void* state, void** out_stream);
    moek_status (*stream_destroy)(void* state, void* stream);
    moek_status (*stream_synchronize)(void* state, void* stream);
    moek_status (*stream_wait_event)(void* state, void* stream, void* event);

    moek_status (*event_create)(void* state, void** out_event);
    moek_status (*event_destroy)(void* state, void* event);
    moek_status (*event_record)(void* state, void* event, void* stream);
    moek_status (*event_synchronize)(void* state, void* event);
    moek_status (*event_elapsed)(void* state, void* start, void* end, double* out_milliseconds);

    moek_status (*graph_capture_begin)(void* state, void* stream);
    moek_status (*graph_capture_end)(void* state, void* stream, void** out_graph);
    moek_status (*graph_node_count)(void* state, const void* graph, uint64_t* out_count);
    moek_status (*graph_launch)(void* state, void* graph, void* stream);
    moek_status (*graph_destroy)(void* state, void* graph);
} moek_backend;

// `host` stays valid for the life of the process.
typedef moek_status (*moek_backend_entry)(const moek_backend_host* host, const moek_backend** out_backend);

}  // extern "C"

namespace moek {

// The CPU backend's table. Its functions may throw; the entry points translate.
const moek_backend& cpu_backend();

// Loads the CUDA library once per path and keeps it. Throws BACKEND_UNAVAILABLE with the reason.
// `path` null or empty: the one that MOEKERNELS_CUDA_LIBRARY names, else the library beside this one.
const moek_backend& cuda_backend(const char* path);
// The same without trying to load anything: null when no CUDA library has been loaded.
const moek_backend* loaded_cuda_backend();

// Checks `device_type` and returns its backend.
const moek_backend& backend_of(int32_t device_type, const char* cuda_library);

}  // namespace moek
