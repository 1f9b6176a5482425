// Texts for people.
#pragma once

#include <source_location>
#include <string>
#include <vector>

#include "emulation/execution/block.hpp"

namespace moek::emulation {

const char* name_of(WarpOperation operation);
const char* name_of(BarrierOperation operation);

// " (gate.cu:81)", or nothing when the place is unknown.
std::string source_text(const std::source_location& where);
bool same_place(const std::source_location& a, const std::source_location& b);

// "block (0,0,0) thread (7,0,0)".
std::string place_of(const Fiber& fiber);

// What the threads that have not finished wait for; empty when all have.
std::string deadlock_text(const std::vector<Warp*>& warps);

}  // namespace moek::emulation
