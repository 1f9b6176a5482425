// The op core_merge: the table's functions.
#pragma once

#include "core/backend.hpp"

namespace moek::cuda {

moek_status core_merge_forward_workspace(void* state, const moek_core_merge_args* args, uint64_t* out_bytes);
moek_status core_merge_forward(void* state, const moek_core_merge_args* args, void* workspace, void* stream);
moek_status core_merge_backward_workspace(void* state, const moek_core_merge_args* args, uint64_t* out_bytes);
moek_status core_merge_backward(void* state, const moek_core_merge_args* args, void* workspace, void* stream);

}  // namespace moek::cuda
