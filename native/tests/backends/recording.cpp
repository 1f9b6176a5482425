// A library as the core loads it for CUDA contexts, to test the boundary from the other side. It computes nothing: it
// records what it is given, so that a test sees that arguments arrive checked and resolved.
#include <cstring>

#include "core/backend.hpp"

namespace {

const moek_backend_host* g_host = nullptr;

struct State {
    moek_backend_log log;
    void* sink;
};

moek_status device_count(int32_t* out_count) {
    *out_count = 2;
    return MOEK_STATUS_CODE_OK;
}

moek_status device_query(int32_t device_index, moek_device_info* out_info) {
    out_info->core_count = 100 + device_index;
    std::strcpy(out_info->name, "recorder");
    return MOEK_STATUS_CODE_OK;
}

moek_status state_create(const moek_context_options* options, moek_backend_log log, void* sink, moek_context_info*,
                         void** out_state) {
    if (options->device_index > 1) {
        g_host->fail("there is no such device");
        return MOEK_STATUS_CODE_DEVICE;
    }
    *out_state = new State{log, sink};
    log(sink, MOEK_LOG_LEVEL_INFORMATION, "recorder ready");
    return MOEK_STATUS_CODE_OK;
}

void state_destroy(void* state) {
    delete static_cast<State*>(state);
}

moek_status gate_forward_workspace(void*, const moek_gate_args*, uint64_t* out_bytes) {
    *out_bytes = 16;
    return MOEK_STATUS_CODE_OK;
}

// Writes the resolved struct and the stream into the workspace's place, the tensor `weights`.
moek_status gate_forward(void*, const moek_gate_args* args, void* workspace, void* stream) {
    if (workspace == nullptr || args->E == 13) {
        g_host->fail("the recorder dislikes 13");
        return MOEK_STATUS_CODE_DEVICE;
    }
    double* out = static_cast<double*>(args->weights);
    const double record[] = {static_cast<double>(args->struct_size),
                             static_cast<double>(args->k),
                             static_cast<double>(args->logits_stride),
                             static_cast<double>(args->dlogits_stride),
                             args->temperature,
                             args->weight_scale,
                             stream == nullptr ? 0.0 : 1.0};
    std::memcpy(out, record, sizeof(record));
    return MOEK_STATUS_CODE_OK;
}

}  // namespace

extern "C" MOEK_API moek_status moek_cuda_backend(const moek_backend_host* host, const moek_backend** out_backend) {
    if (host->version != MOEK_BACKEND_VERSION || host->struct_size != sizeof(moek_backend_host)) {
        return MOEK_STATUS_CODE_UNSUPPORTED;
    }
    g_host = host;
    static moek_backend table = {};
    table.struct_size = sizeof(table);
    table.version = MOEK_BACKEND_VERSION;
    table.targets = "sm_00";
    table.device_count = device_count;
    table.device_query = device_query;
    table.state_create = state_create;
    table.state_destroy = state_destroy;
    table.gate_forward_workspace = gate_forward_workspace;
    table.gate_forward = gate_forward;
    *out_backend = &table;
    return MOEK_STATUS_CODE_OK;
}
