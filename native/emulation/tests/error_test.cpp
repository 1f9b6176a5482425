// What the CUDA library makes of CUDA's errors, also of those that the emulation never returns.
#include "cuda/common/error.hpp"

#include <gtest/gtest.h>

namespace moek::emulation {
namespace {

void expect_error(cudaError_t code, moek_status status, const std::string& text) {
    try {
        cuda::check(code, "cudaSomething");
        ADD_FAILURE() << "check returned for " << code;
    } catch (const cuda::Error& error) {
        EXPECT_EQ(error.status(), status) << error.what();
        const std::string expected = std::string("cudaSomething: ") + cudaGetErrorName(code) + " (" +
                                     std::to_string(static_cast<int>(code)) + "): " + cudaGetErrorString(code) + text;
        EXPECT_EQ(text.empty() ? error.what() : std::string(error.what()).substr(0, expected.size()), expected);
    }
}

TEST(Errors, SayWhatToDoAboutThem) {
    EXPECT_NO_THROW(cuda::check(cudaSuccess, "cudaSomething"));
    expect_error(cudaErrorMemoryAllocation, MOEK_STATUS_CODE_OUT_OF_MEMORY,
                 "; the device has no block of this size left");
    expect_error(cudaErrorNoDevice, MOEK_STATUS_CODE_BACKEND_UNAVAILABLE, "; there is no CUDA device");
    expect_error(cudaErrorInsufficientDriver, MOEK_STATUS_CODE_BACKEND_UNAVAILABLE, "; install a newer NVIDIA driver");
    for (const cudaError_t code :
         {cudaErrorNoKernelImageForDevice, cudaErrorUnsupportedPtxVersion, cudaErrorInvalidDeviceFunction}) {
        expect_error(code, MOEK_STATUS_CODE_BACKEND_UNAVAILABLE, "; this library holds no machine code for the device");
    }
    expect_error(cudaErrorStreamCaptureInvalidated, MOEK_STATUS_CODE_DEVICE, "; a stream is being captured");
    for (const cudaError_t code : {cudaErrorIllegalAddress, cudaErrorLaunchFailure, cudaErrorECCUncorrectable}) {
        expect_error(code, MOEK_STATUS_CODE_DEVICE, "; the error comes from this or an earlier call on the device");
    }
    expect_error(cudaErrorInvalidValue, MOEK_STATUS_CODE_DEVICE, "");
}

}  // namespace
}  // namespace moek::emulation
