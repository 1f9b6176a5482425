// A library of another version of the backend table.
#include "core/backend.hpp"

extern "C" MOEK_API moek_status moek_cuda_backend(const moek_backend_host*, const moek_backend** out_backend) {
    static moek_backend table = {};
    table.struct_size = sizeof(table);
    table.version = MOEK_BACKEND_VERSION + 1;
    *out_backend = &table;
    return MOEK_STATUS_CODE_OK;
}
