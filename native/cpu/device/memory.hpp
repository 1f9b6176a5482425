// Memory of the CPU's contexts: host memory.
#pragma once

#include <cstdint>

#include "moekernels.h"

namespace moek::cpu {

// Bytes of this machine; 0 when they cannot be told.
uint64_t physical_memory();

moek_status memory_query(void* state, uint64_t* out_free, uint64_t* out_total);
moek_status memory_allocate(void* state, uint64_t bytes, void** out_memory);
moek_status memory_free(void* state, void* memory);
moek_status memory_copy(void* state, void* destination, const void* source, uint64_t bytes, int32_t kind, void* stream);
moek_status memory_set(void* state, void* destination, int32_t value, uint64_t bytes, void* stream);

}  // namespace moek::cpu
