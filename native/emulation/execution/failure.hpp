// The end of a kernel by error: the launch returns cudaErrorLaunchFailure, and cudaGetErrorString tells what happened.
#pragma once

#include <source_location>

namespace moek::emulation {

[[noreturn]] void fail(const char* what, std::source_location where = std::source_location::current());

}  // namespace moek::emulation
