// threadIdx, blockIdx, blockDim, gridDim, warpSize.
#pragma once

#include "emulation/execution/thread.hpp"

#define threadIdx (::moek::emulation::this_thread().thread_index)
#define blockIdx (::moek::emulation::this_thread().block_index)
#define blockDim (::moek::emulation::this_thread().block_size)
#define gridDim (::moek::emulation::this_thread().grid_size)

inline constexpr int warpSize = 32;
