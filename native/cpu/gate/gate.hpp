// The op `gate` on the CPU.
#pragma once

#include "cpu/common/context.hpp"

namespace moek::cpu {

moek_status gate_forward_workspace(void* state, const moek_gate_args* args, uint64_t* out_bytes);
moek_status gate_forward(void* state, const moek_gate_args* args, void* workspace, void* stream);
moek_status gate_backward_workspace(void* state, const moek_gate_args* args, uint64_t* out_bytes);
moek_status gate_backward(void* state, const moek_gate_args* args, void* workspace, void* stream);
moek_status gate_bias_update(void* state, const moek_gate_bias_update_args* args, void* stream);

}  // namespace moek::cpu
