#include <string>

#include "cuda/common/device.hpp"
#include "cuda/common/error.hpp"
#include "cuda/device/event.hpp"
#include "cuda/device/stream.hpp"

namespace moek::cuda {

bool is_captured(void* stream) {
    // The default stream never is; asked while another thread captures, CUDA would answer with an error.
    if (stream == nullptr) return false;
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(stream_of(stream), &status), "cudaStreamIsCapturing");
    return status != cudaStreamCaptureStatusNone;
}

void require_not_captured(void* stream, const char* why) {
    if (!is_captured(stream)) return;
    throw Error(MOEK_STATUS_CODE_INVALID_ARGUMENT,
                std::string("stream: got one that is being captured, expected one that is not: ") + why);
}

moek_status stream_create(void* state, void** out_stream) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        cudaStream_t stream = nullptr;
        check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
        *out_stream = stream;
    });
}

moek_status stream_destroy(void* state, void* stream) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        check(cudaStreamDestroy(stream_of(stream)), "cudaStreamDestroy");
    });
}

moek_status stream_synchronize(void* state, void* stream) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        require_not_captured(stream, "its work has not begun");
        check(cudaStreamSynchronize(stream_of(stream)), "cudaStreamSynchronize");
    });
}

moek_status stream_wait_event(void* state, void* stream, void* event) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        check(cudaStreamWaitEvent(stream_of(stream), event_of(event).handle, 0), "cudaStreamWaitEvent");
    });
}

}  // namespace moek::cuda
