// The CPU backend's table. An op adds its functions here; a slot left out is reported as unsupported.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#if defined(__linux__)
#include <fstream>
#endif

#include "core/backend.hpp"
#include "core/check.hpp"
#include "cpu/common/context.hpp"
#include "cpu/core_merge/core_merge.hpp"
#include "cpu/device/memory.hpp"
#include "cpu/device/stream.hpp"
#include "cpu/dropout/dropout.hpp"
#include "cpu/gate/gate.hpp"
#include "cpu/rank_lora/rank_lora.hpp"

namespace moek::cpu {
namespace {

std::string processor_name() {
#if defined(__linux__)
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        const size_t colon = line.find(": ");
        if (line.compare(0, 10, "model name") == 0 && colon != std::string::npos) return line.substr(colon + 2);
    }
#endif
    return "CPU";
}

moek_status device_count(int32_t* out_count) {
    *out_count = 1;
    return MOEK_STATUS_CODE_OK;
}

moek_status device_query(int32_t, moek_device_info* out_info) {
    out_info->core_count = available_cores();
    out_info->total_memory = physical_memory();
    std::snprintf(out_info->name, sizeof(out_info->name), "%s", processor_name().c_str());
    return MOEK_STATUS_CODE_OK;
}

moek_status state_create(const moek_context_options* options, moek_backend_log log, void* sink, moek_context_info* info,
                         void** out_state) {
    check_range("device_index", options->device_index, 0, 0);
    const int32_t cores = available_cores();
    const int32_t thread_count = options->thread_count == 0 ? cores : options->thread_count;
    auto context = std::make_unique<Context>(thread_count, resolve_isa(options->isa), options->parallel);
    if (thread_count > cores) {
        const std::string text = "thread_count " + std::to_string(thread_count) + " is more than the " +
                                 std::to_string(cores) + " cores this process may use";
        log(sink, MOEK_LOG_LEVEL_WARNING, text.c_str());
    }
    info->thread_count = thread_count;
    info->isa = context->isa;
    *out_state = context.release();
    return MOEK_STATUS_CODE_OK;
}

void state_destroy(void* state) {
    delete static_cast<Context*>(state);
}

moek_backend make_backend() {
    moek_backend table = {};
    table.struct_size = sizeof(table);
    table.version = MOEK_BACKEND_VERSION;
    table.targets = "";
    table.device_count = device_count;
    table.device_query = device_query;
    table.state_create = state_create;
    table.state_destroy = state_destroy;
    table.gate_forward_workspace = gate_forward_workspace;
    table.gate_forward = gate_forward;
    table.gate_backward_workspace = gate_backward_workspace;
    table.gate_backward = gate_backward;
    table.gate_bias_update = gate_bias_update;
    table.core_merge_forward_workspace = core_merge_forward_workspace;
    table.core_merge_forward = core_merge_forward;
    table.core_merge_backward_workspace = core_merge_backward_workspace;
    table.core_merge_backward = core_merge_backward;
    table.rank_lora_forward_workspace = rank_lora_forward_workspace;
    table.rank_lora_forward = rank_lora_forward;
    table.rank_lora_backward_workspace = rank_lora_backward_workspace;
    table.rank_lora_backward = rank_lora_backward;
    table.dropout_mask = dropout_mask;
    table.memory_query = memory_query;
    table.memory_allocate = memory_allocate;
    table.memory_free = memory_free;
    table.memory_copy = memory_copy;
    table.memory_set = memory_set;
    // The rest of these groups is never reached: there is no stream but null, and no graph.
    table.stream_create = stream_create;
    table.stream_synchronize = stream_synchronize;
    table.stream_wait_event = stream_wait_event;
    table.event_create = event_create;
    table.event_destroy = event_destroy;
    table.event_record = event_record;
    table.event_synchronize = event_synchronize;
    table.event_elapsed = event_elapsed;
    table.graph_capture_begin = graph_capture_begin;
    table.graph_capture_end = graph_capture_end;
    return table;
}

}  // namespace
}  // namespace moek::cpu

const moek_backend& moek::cpu_backend() {
    static const moek_backend table = cpu::make_backend();
    return table;
}
