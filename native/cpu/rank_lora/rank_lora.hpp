// The op `rank_lora` on the CPU.
#pragma once

#include "cpu/common/context.hpp"

namespace moek::cpu {

moek_status rank_lora_forward_workspace(void* state, const moek_rank_lora_args* args, uint64_t* out_bytes);
moek_status rank_lora_forward(void* state, const moek_rank_lora_args* args, void* workspace, void* stream);
moek_status rank_lora_backward_workspace(void* state, const moek_rank_lora_args* args, uint64_t* out_bytes);
moek_status rank_lora_backward(void* state, const moek_rank_lora_args* args, void* workspace, void* stream);

}  // namespace moek::cpu
