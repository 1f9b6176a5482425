// The emulated device: there are MOEK_EMULATION_DEVICES of the same kind, which share the host's memory.
#pragma once

#include <cstddef>

namespace moek::emulation {

struct EmulatedDevice {
    int capability;  // MOEK_EMULATION_CAPABILITY, 90 for 9.0
    int sm_count;    // MOEK_EMULATION_SM_COUNT
    size_t shared_optin_bytes;
    size_t memory_bytes;
};

inline constexpr size_t kDefaultSharedBytes = 48 * 1024;

// As the environment asks for; read at each call.
EmulatedDevice emulated_device();

}  // namespace moek::emulation
