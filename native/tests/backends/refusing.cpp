// A library that finds itself unable to work.
#include "core/backend.hpp"

extern "C" MOEK_API moek_status moek_cuda_backend(const moek_backend_host* host, const moek_backend**) {
    host->fail("the driver is too old");
    return MOEK_STATUS_CODE_DEVICE;
}
