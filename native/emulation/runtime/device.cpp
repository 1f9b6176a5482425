#include "emulation/runtime/device.hpp"

#include <unistd.h>

#include <cstring>

#include "emulation/execution/options.hpp"
#include "emulation/runtime/api.hpp"
#include "emulation/runtime/capture.hpp"
#include "emulation/runtime/error.hpp"

namespace moek::emulation {
namespace {

// CUDA's own table: what a block may ask for at most.
size_t shared_optin_bytes(int capability) {
    switch (capability) {
        case 80:
        case 87:
            return 163 * 1024;
        case 86:
        case 89:
        case 120:
            return 99 * 1024;
        default:
            return capability < 80 ? 64 * 1024 : 227 * 1024;
    }
}

thread_local int current_device = 0;

int device_count() {
    return static_cast<int>(environment_number("MOEK_EMULATION_DEVICES", 1, 0, 16));
}

bool exists(int device) {
    return device >= 0 && device < device_count();
}

}  // namespace

EmulatedDevice emulated_device() {
    EmulatedDevice device;
    device.capability = static_cast<int>(environment_number("MOEK_EMULATION_CAPABILITY", 90, 10, 999));
    device.sm_count = static_cast<int>(environment_number("MOEK_EMULATION_SM_COUNT", 132, 1, 1024));
    device.shared_optin_bytes = shared_optin_bytes(device.capability);
    device.memory_bytes = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return device;
}

}  // namespace moek::emulation

using namespace moek::emulation;

cudaError_t cudaDriverGetVersion(int* version) {
    *version = static_cast<int>(environment_number("MOEK_EMULATION_DRIVER", 12040, 0, 99990));
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = 12040;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = device_count();
    return result(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaGetDevice(int* device) {
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (!exists(device)) return result(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
    if (!exists(index)) return result(cudaErrorInvalidDevice);
    const EmulatedDevice device = emulated_device();
    *properties = {};
    std::strcpy(properties->name, "MoEKernels emulation");
    properties->totalGlobalMem = device.memory_bytes;
    properties->sharedMemPerBlock = kDefaultSharedBytes;
    properties->sharedMemPerBlockOptin = device.shared_optin_bytes;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = 0x7FFFFFFF;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->major = device.capability / 10;
    properties->minor = device.capability % 10;
    properties->multiProcessorCount = device.sm_count;
    properties->unifiedAddressing = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
    if (!exists(index)) return result(cudaErrorInvalidDevice);
    const EmulatedDevice device = emulated_device();
    switch (attribute) {
        case cudaDevAttrMaxThreadsPerBlock:
        case cudaDevAttrMaxBlockDimX:
        case cudaDevAttrMaxBlockDimY:
            *value = 1024;
            return cudaSuccess;
        case cudaDevAttrMaxBlockDimZ:
            *value = 64;
            return cudaSuccess;
        case cudaDevAttrMaxGridDimX:
            *value = 0x7FFFFFFF;
            return cudaSuccess;
        case cudaDevAttrMaxGridDimY:
        case cudaDevAttrMaxGridDimZ:
            *value = 65535;
            return cudaSuccess;
        case cudaDevAttrMaxSharedMemoryPerBlock:
            *value = static_cast<int>(kDefaultSharedBytes);
            return cudaSuccess;
        case cudaDevAttrWarpSize:
            *value = 32;
            return cudaSuccess;
        case cudaDevAttrMultiProcessorCount:
            *value = device.sm_count;
            return cudaSuccess;
        case cudaDevAttrUnifiedAddressing:
        case cudaDevAttrPageableMemoryAccess:
            *value = 1;
            return cudaSuccess;
        case cudaDevAttrComputeCapabilityMajor:
            *value = device.capability / 10;
            return cudaSuccess;
        case cudaDevAttrComputeCapabilityMinor:
            *value = device.capability % 10;
            return cudaSuccess;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            *value = static_cast<int>(device.shared_optin_bytes);
            return cudaSuccess;
    }
    return result(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceSynchronize(void) {
    return result(forbid_during_capture(ForbiddenBy::kAnyCapture));
}
