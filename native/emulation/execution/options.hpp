// How kernels are scheduled; read from the environment at every launch.
#pragma once

#include <cstdint>

namespace moek::emulation {

struct Options {
    // MOEK_EMULATION_SEED. 0: blocks, warps and lanes run in order, and cp.async copies when it is waited for. Any other
    // number: everything that the hardware may choose is chosen at random, differently in each launch.
    uint64_t seed;
    // MOEK_EMULATION_PREEMPT: the chance in percent that another thread runs before a collective or an atomic.
    unsigned preempt;
    // MOEK_EMULATION_RESIDENT: how many blocks run interleaved; 1 in order and 2 at random when unset.
    unsigned resident;
};

Options options_from_environment();

// A whole number from the environment, or `otherwise` when it is unset, no number, or out of range.
long environment_number(const char* name, long otherwise, long least, long most);

}  // namespace moek::emulation
