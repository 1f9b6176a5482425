// The op `gate` on a GPU: the table's functions, and what they launch, for ops whose logits lie in memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/device.hpp"
#include "cuda/gate/gate_rule.hpp"

namespace moek::cuda {

moek_status gate_forward_workspace(void* state, const moek_gate_args* args, uint64_t* out_bytes);
moek_status gate_forward(void* state, const moek_gate_args* args, void* workspace, void* stream);
moek_status gate_backward_workspace(void* state, const moek_gate_args* args, uint64_t* out_bytes);
moek_status gate_backward(void* state, const moek_gate_args* args, void* workspace, void* stream);
moek_status gate_bias_update(void* state, const moek_gate_bias_update_args* args, void* stream);

// The same for a resolved call that the caller has checked, on the current device; they throw.
void launch_gate_forward(const Device& device, const moek_gate_args& args, cudaStream_t stream);
void launch_gate_backward(const Device& device, const moek_gate_args& args, cudaStream_t stream);

}  // namespace moek::cuda
