// The last error of each thread.
#pragma once

#include <string>

#include "emulation/runtime/types.hpp"

namespace moek::emulation {

// Remembers a failure for cudaGetLastError, and returns it.
cudaError_t result(cudaError_t error);
// The same with a text that cudaGetErrorString returns for this error from now on.
cudaError_t result(cudaError_t error, const std::string& text);

}  // namespace moek::emulation
