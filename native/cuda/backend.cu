// The CUDA backend's table. An op adds its functions here; slots left null are answered with UNSUPPORTED by the core.
#include "core/backend.hpp"
#include "cuda/common/error.hpp"
#include "cuda/device/device.hpp"
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
    table.dropout_mask = dropout_mask;
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
