// The barrier of a block.
#pragma once

#include <cstdint>
#include <source_location>

namespace moek::emulation {

enum class BarrierOperation : uint8_t { kPlain, kCount, kAnd, kOr };

// Waits until every thread of the block that has not finished has come here, and returns what the operation makes of
// their predicates. Fails when threads meet in different operations or at different places of the source.
int wait_at_barrier(BarrierOperation operation, bool predicate, std::source_location where);

}  // namespace moek::emulation
