// The op `gate` on the CPU.
#pragma once

#include "cpu/common/context.hpp"

namespace moek::cpu {

moek_status gate_bias_update(void* state, const moek_gate_bias_update_args* args, void* stream);

}  // namespace moek::cpu
