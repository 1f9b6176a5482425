// The op `dropout`: writes the mask that the other ops apply.
#pragma once

#include "cpu/common/context.hpp"

namespace moek::cpu {

moek_status dropout_mask(void* state, const moek_dropout_args* args, void* stream);

}  // namespace moek::cpu
