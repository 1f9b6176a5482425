#include "cuda/common/error.hpp"

namespace moek::cuda {
namespace {

const moek_backend_host* g_host = nullptr;

// The status of a failing CUDA call and what its text adds to CUDA's own.
struct Explanation {
    moek_status status;
    const char* text;
};

Explanation explain(cudaError_t error) {
    switch (error) {
        case cudaErrorMemoryAllocation:
            return {MOEK_STATUS_CODE_OUT_OF_MEMORY, "; the device has no block of this size left"};
        case cudaErrorNoDevice:
            return {MOEK_STATUS_CODE_BACKEND_UNAVAILABLE,
                    "; there is no CUDA device, or CUDA_VISIBLE_DEVICES hides it"};
        case cudaErrorInsufficientDriver:
            return {MOEK_STATUS_CODE_BACKEND_UNAVAILABLE, "; install a newer NVIDIA driver"};
        case cudaErrorNoKernelImageForDevice:
        case cudaErrorUnsupportedPtxVersion:
        case cudaErrorInvalidDeviceFunction:
            return {
                MOEK_STATUS_CODE_BACKEND_UNAVAILABLE,
                "; this library holds no machine code for the device (moek_build_info lists what it holds under sm)"};
        case cudaErrorStreamCaptureUnsupported:
        case cudaErrorStreamCaptureInvalidated:
        case cudaErrorStreamCaptureImplicit:
        case cudaErrorStreamCaptureWrongThread:
        case cudaErrorStreamCaptureUnjoined:
        case cudaErrorStreamCaptureUnmatched:
        case cudaErrorStreamCaptureIsolation:
        case cudaErrorStreamCaptureMerge:
            return {MOEK_STATUS_CODE_DEVICE, "; a stream is being captured into a graph, which rules this call out"};
        // These destroy the process' CUDA state: every later call fails with the same code, whoever makes it.
        case cudaErrorIllegalAddress:
        case cudaErrorLaunchTimeout:
        case cudaErrorAssert:
        case cudaErrorHardwareStackError:
        case cudaErrorIllegalInstruction:
        case cudaErrorMisalignedAddress:
        case cudaErrorInvalidAddressSpace:
        case cudaErrorInvalidPc:
        case cudaErrorLaunchFailure:
        case cudaErrorECCUncorrectable:
            return {MOEK_STATUS_CODE_DEVICE,
                    "; the error comes from this or an earlier call on the device and stays until the process ends; "
                    "compute-sanitizer finds its cause"};
        default:
            return {MOEK_STATUS_CODE_DEVICE, ""};
    }
}

}  // namespace

void set_host(const moek_backend_host& host) noexcept {
    g_host = &host;
}

const moek_backend_host& host() noexcept {
    return *g_host;
}

std::string version_text(int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

void check_driver() {
    int driver = 0;
    int runtime = 0;
    check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    if (driver == 0) throw Error(MOEK_STATUS_CODE_BACKEND_UNAVAILABLE, "no NVIDIA driver is installed");
    // Within a major version an older driver runs what a newer toolkit made.
    if (driver / 1000 < runtime / 1000) {
        throw Error(MOEK_STATUS_CODE_BACKEND_UNAVAILABLE, "the NVIDIA driver is too old: it offers CUDA " +
                                                              version_text(driver) + ", expected " +
                                                              version_text(runtime / 1000 * 1000) + " or newer");
    }
}

void check(cudaError_t result, const char* call) {
    if (result == cudaSuccess) return;
    cudaGetLastError();
    const Explanation explanation = explain(result);
    throw Error(explanation.status, std::string(call) + ": " + cudaGetErrorName(result) + " (" +
                                        std::to_string(static_cast<int>(result)) + "): " + cudaGetErrorString(result) +
                                        explanation.text);
}

void fail_unsupported(const std::string& message) {
    throw Error(MOEK_STATUS_CODE_UNSUPPORTED, message);
}

}  // namespace moek::cuda
