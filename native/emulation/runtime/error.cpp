#include "emulation/runtime/error.hpp"

#include "emulation/runtime/api.hpp"

namespace moek::emulation {
namespace {

struct LastError {
    cudaError_t error = cudaSuccess;
    // What the last kernel that failed did.
    cudaError_t described = cudaSuccess;
    std::string text;
};

LastError& last() {
    static thread_local LastError value;
    return value;
}

struct Description {
    cudaError_t error;
    const char* name;
    const char* text;
};

#define MOEK_EMULATION_ERROR(name, text) \
    { name, #name, text }
constexpr Description kDescriptions[] = {
    MOEK_EMULATION_ERROR(cudaSuccess, "no error"),
    MOEK_EMULATION_ERROR(cudaErrorInvalidValue, "invalid argument"),
    MOEK_EMULATION_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    MOEK_EMULATION_ERROR(cudaErrorInitializationError, "initialization error"),
    MOEK_EMULATION_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    MOEK_EMULATION_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction"),
    MOEK_EMULATION_ERROR(cudaErrorInsufficientDriver, "driver version is too old for this runtime"),
    MOEK_EMULATION_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    MOEK_EMULATION_ERROR(cudaErrorNoDevice, "no device"),
    MOEK_EMULATION_ERROR(cudaErrorInvalidDevice, "invalid device number"),
    MOEK_EMULATION_ERROR(cudaErrorNoKernelImageForDevice, "no kernel image for this device"),
    MOEK_EMULATION_ERROR(cudaErrorECCUncorrectable, "uncorrectable memory error"),
    MOEK_EMULATION_ERROR(cudaErrorUnsupportedPtxVersion, "unsupported PTX version"),
    MOEK_EMULATION_ERROR(cudaErrorInvalidResourceHandle, "invalid handle"),
    MOEK_EMULATION_ERROR(cudaErrorIllegalState, "the operation does not fit the state"),
    MOEK_EMULATION_ERROR(cudaErrorNotReady, "not ready"),
    MOEK_EMULATION_ERROR(cudaErrorIllegalAddress, "illegal memory access"),
    MOEK_EMULATION_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    MOEK_EMULATION_ERROR(cudaErrorLaunchTimeout, "the launch timed out"),
    MOEK_EMULATION_ERROR(cudaErrorAssert, "a device assertion failed"),
    MOEK_EMULATION_ERROR(cudaErrorHostMemoryAlreadyRegistered, "the memory is registered already"),
    MOEK_EMULATION_ERROR(cudaErrorHostMemoryNotRegistered, "the memory is not registered"),
    MOEK_EMULATION_ERROR(cudaErrorHardwareStackError, "stack error"),
    MOEK_EMULATION_ERROR(cudaErrorIllegalInstruction, "illegal instruction"),
    MOEK_EMULATION_ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    MOEK_EMULATION_ERROR(cudaErrorInvalidAddressSpace, "invalid address space"),
    MOEK_EMULATION_ERROR(cudaErrorInvalidPc, "invalid program counter"),
    MOEK_EMULATION_ERROR(cudaErrorLaunchFailure, "the launch failed"),
    MOEK_EMULATION_ERROR(cudaErrorNotSupported, "not supported"),
    MOEK_EMULATION_ERROR(cudaErrorStreamCaptureUnsupported, "not permitted while a stream is capturing"),
    MOEK_EMULATION_ERROR(cudaErrorStreamCaptureInvalidated, "an earlier error has invalidated the capture"),
    MOEK_EMULATION_ERROR(cudaErrorStreamCaptureMerge, "the call would merge two captures"),
    MOEK_EMULATION_ERROR(cudaErrorStreamCaptureUnmatched, "the capture did not begin in this stream"),
    MOEK_EMULATION_ERROR(cudaErrorStreamCaptureUnjoined, "a stream of the capture was not joined"),
    MOEK_EMULATION_ERROR(cudaErrorStreamCaptureIsolation, "a capture would depend on work outside of it"),
    MOEK_EMULATION_ERROR(cudaErrorStreamCaptureImplicit, "the default stream would wait for a capturing one"),
    MOEK_EMULATION_ERROR(cudaErrorCapturedEvent, "the event was last recorded in a capturing stream"),
    MOEK_EMULATION_ERROR(cudaErrorStreamCaptureWrongThread, "the capture began in another thread"),
    MOEK_EMULATION_ERROR(cudaErrorInvalidClusterSize, "invalid cluster size"),
    MOEK_EMULATION_ERROR(cudaErrorUnknown, "unknown error"),
};
#undef MOEK_EMULATION_ERROR

const Description* find(cudaError_t error) {
    for (const Description& description : kDescriptions) {
        if (description.error == error) return &description;
    }
    return nullptr;
}

}  // namespace

cudaError_t result(cudaError_t error) {
    if (error != cudaSuccess) last().error = error;
    return error;
}

cudaError_t result(cudaError_t error, const std::string& text) {
    last().described = error;
    last().text = text;
    return result(error);
}

}  // namespace moek::emulation

using namespace moek::emulation;

const char* cudaGetErrorName(cudaError_t error) {
    const Description* description = find(error);
    return description == nullptr ? "unrecognized error code" : description->name;
}

const char* cudaGetErrorString(cudaError_t error) {
    if (error != cudaSuccess && error == last().described) return last().text.c_str();
    const Description* description = find(error);
    return description == nullptr ? "unrecognized error code" : description->text;
}

cudaError_t cudaGetLastError(void) {
    const cudaError_t error = last().error;
    last().error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) {
    return last().error;
}
