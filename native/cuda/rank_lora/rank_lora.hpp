// The op rank_lora: the table's functions.
#pragma once

#include "core/backend.hpp"

namespace moek::cuda {

moek_status rank_lora_forward_workspace(void* state, const moek_rank_lora_args* args, uint64_t* out_bytes);
moek_status rank_lora_forward(void* state, const moek_rank_lora_args* args, void* workspace, void* stream);
moek_status rank_lora_backward_workspace(void* state, const moek_rank_lora_args* args, uint64_t* out_bytes);
moek_status rank_lora_backward(void* state, const moek_rank_lora_args* args, void* workspace, void* stream);

}  // namespace moek::cuda
