// The CUDA backend's table. An op adds its functions here; slots left null are answered with UNSUPPORTED by the core.
#include "core/backend.hpp"
#include "cuda/common/error.hpp"
#include "cuda/core_merge/core_merge.hpp"
#include "cuda/device/device.hpp"
#include "cuda/device/event.hpp"
#include "cuda/device/graph.hpp"
#include "cuda/device/memory.hpp"
#include "cuda/device/stream.hpp"
#include "cuda/dropout/dropout.hpp"
#include "cuda/gate/gate.hpp"
#include "cuda/rank_lora/rank_lora.hpp"

// What machine code is inside; the build states it.
#if !defined(MOEK_CUDA_TARGETS)
#define MOEK_CUDA_TARGETS "emulated"
#endif

namespace moek::cuda {
namespace {

moek_backend make_table() {
    moek_backend table = {};
    table.struct_size = sizeof(table);
    table.version = MOEK_BACKEND_VERSION;
    table.targets = MOEK_CUDA_TARGETS;
    table.device_count = device_count;
    table.device_query = device_query;
    table.state_create = state_create;
    table.state_destroy = state_destroy;
    table.gate_forward_workspace = gate_forward_workspace;
    table.gate_forward = gate_forward;
    table.gate_backward_workspace = gate_backward_workspace;
    table.gate_backward = gate_backward;
    table.gate_bias_update = gate_bias_update;
    table.rank_lora_forward_workspace = rank_lora_forward_workspace;
    table.rank_lora_forward = rank_lora_forward;
    table.rank_lora_backward_workspace = rank_lora_backward_workspace;
    table.rank_lora_backward = rank_lora_backward;
    table.core_merge_forward_workspace = core_merge_forward_workspace;
    table.core_merge_forward = core_merge_forward;
    table.core_merge_backward_workspace = core_merge_backward_workspace;
    table.core_merge_backward = core_merge_backward;
    table.dropout_mask = dropout_mask;
    table.memory_query = memory_query;
    table.memory_allocate = memory_allocate;
    table.memory_free = memory_free;
    table.memory_copy = memory_copy;
    table.memory_set = memory_set;
    table.stream_create = stream_create;
    table.stream_destroy = stream_destroy;
    table.stream_synchronize = stream_synchronize;
    table.stream_wait_event = stream_wait_event;
    table.event_create = event_create;
    table.event_destroy = event_destroy;
    table.event_record = event_record;
    table.event_synchronize = event_synchronize;
    table.event_elapsed = event_elapsed;
    table.graph_capture_begin = graph_capture_begin;
    table.graph_capture_end = graph_capture_end;
    table.graph_node_count = graph_node_count;
    table.graph_launch = graph_launch;
    table.graph_destroy = graph_destroy;
    return table;
}

}  // namespace
}  // namespace moek::cuda

extern "C" MOEK_API moek_status moek_cuda_backend(const moek_backend_host* host, const moek_backend** out_backend) {
    if (host->version != MOEK_BACKEND_VERSION || host->struct_size != sizeof(moek_backend_host)) {
        // The first fields of the host, `fail` among them, are the same in every version.
        host->fail("it belongs to another version of MoEKernels");
        return MOEK_STATUS_CODE_BACKEND_UNAVAILABLE;
    }
    moek::cuda::set_host(*host);
    return moek::cuda::guarded([&] {
        moek::cuda::check_driver();
        static const moek_backend table = moek::cuda::make_table();
        *out_backend = &table;
    });
}
