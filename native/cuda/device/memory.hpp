// Device memory: the table's functions for it.
#pragma once

#include "core/backend.hpp"

namespace moek::cuda {

moek_status memory_query(void* state, uint64_t* out_free, uint64_t* out_total);
moek_status memory_allocate(void* state, uint64_t bytes, void** out_memory);
moek_status memory_free(void* state, void* memory);
moek_status memory_copy(void* state, void* destination, const void* source, uint64_t bytes, int32_t kind, void* stream);
moek_status memory_set(void* state, void* destination, int32_t value, uint64_t bytes, void* stream);

}  // namespace moek::cuda
