// Counters of the kernels that this thread of the operating system has launched; to be read and reset at will.
#pragma once

#include <cstdint>

namespace moek::emulation {

struct Statistics {
    uint64_t launches;
    uint64_t blocks;
    uint64_t switches;
    uint64_t collectives;
    // A matrix loaded by ldmatrix, and how many of its 8 rows came late because of rows in the same banks.
    uint64_t matrices;
    uint64_t bank_conflicts;
    // Boxes of tensors that were asked for, and their bytes: once each, however many blocks they go to.
    uint64_t tensor_copies;
    uint64_t tensor_bytes;
};

Statistics& statistics();

}  // namespace moek::emulation
