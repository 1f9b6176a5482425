// <cuda_runtime.h> of the emulation: the part of CUDA's language and run-time library that the sources under cuda/ use,
// for a plain C++ compiler. Kernels run on the CPU, one fiber per CUDA thread, and device memory is host memory.
// See emulation/README.md.
#pragma once

#include "emulation/language/keywords.hpp"
#include "emulation/language/vector_types.hpp"
// The types above come first: what follows uses them.
#include "emulation/language/atomics.hpp"
#include "emulation/language/barriers.hpp"
#include "emulation/language/bit_functions.hpp"
#include "emulation/language/builtin_variables.hpp"
#include "emulation/language/math_functions.hpp"
#include "emulation/language/memory_functions.hpp"
#include "emulation/language/warp_functions.hpp"
#include "emulation/runtime/api.hpp"
