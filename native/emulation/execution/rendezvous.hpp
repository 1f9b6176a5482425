// The one primitive behind everything that the lanes of a warp do together: each lane of a mask leaves a value, waits
// for the others, and sees all of theirs.
#pragma once

#include <cstdint>
#include <source_location>

namespace moek::emulation {

enum class WarpOperation : uint8_t {
    kSyncWarp,
    kShuffle,
    kShuffleUp,
    kShuffleDown,
    kShuffleXor,
    kBallot,
    kAny,
    kAll,
    kMatchAny,
    kMatchAll,
    kReduceAdd,
    kReduceMin,
    kReduceMax,
    kReduceAnd,
    kReduceOr,
    kReduceXor,
    kLoadMatrix,
    kMultiply,
};

struct alignas(16) Slot {
    unsigned char bytes[32];
};

// Returns the 32 slots of the warp, of which those in `mask` are filled with what each lane passed: 4, 8, 16 or 24
// bytes. They stay valid until this lane's next operation.
const Slot* exchange(uint32_t mask, WarpOperation operation, const void* value, unsigned bytes,
                     std::source_location where);

// Waits for the lanes, and orders the memory accesses before against those after.
void sync_warp(uint32_t mask, std::source_location where);

}  // namespace moek::emulation
