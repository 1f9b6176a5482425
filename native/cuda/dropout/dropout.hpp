// The op `dropout` on a GPU.
#pragma once

#include "cuda/common/device.hpp"

namespace moek::cuda {

moek_status dropout_mask(void* state, const moek_dropout_args* args, void* stream);

}  // namespace moek::cuda
