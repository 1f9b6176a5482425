// Devices and contexts: the table's functions that belong to no op.
#pragma once

#include "core/backend.hpp"

namespace moek::cuda {

moek_status device_count(int32_t* out_count);
moek_status device_query(int32_t device_index, moek_device_info* out_info);
moek_status state_create(const moek_context_options* options, moek_backend_log log, void* sink, moek_context_info* info,
                         void** out_state);
void state_destroy(void* state);

}  // namespace moek::cuda
