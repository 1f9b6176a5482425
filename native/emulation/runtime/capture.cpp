#include "emulation/runtime/capture.hpp"

#include <algorithm>
#include <mutex>
#include <set>
#include <utility>

#include "emulation/runtime/api.hpp"
#include "emulation/runtime/error.hpp"

namespace moek::emulation {
namespace {

// All streams and their captures.
struct Streams {
    std::mutex mutex;
    std::set<CUstream_st*> known;
    std::vector<std::shared_ptr<Capture>> captures;
};

Streams& streams() {
    static Streams value;
    return value;
}

CUstream_st& per_thread_stream() {
    static thread_local struct Registered {
        CUstream_st stream{true, nullptr};
        Registered() {
            const std::lock_guard lock(streams().mutex);
            streams().known.insert(&stream);
        }
        ~Registered() {
            const std::lock_guard lock(streams().mutex);
            streams().known.erase(&stream);
        }
    } registered;
    return registered.stream;
}

bool is_legacy(cudaStream_t stream) {
    return stream == nullptr || stream == cudaStreamLegacy;
}

cudaStream_t resolve(cudaStream_t stream) {
    return stream == cudaStreamPerThread ? &per_thread_stream() : stream;
}

// The functions below are called with the mutex held.

bool is_known(cudaStream_t stream) {
    return streams().known.count(stream) != 0;
}

// The default stream waits for every blocking stream, which would end their captures.
cudaError_t check_legacy() {
    cudaError_t error = cudaSuccess;
    for (CUstream_st* stream : streams().known) {
        if (stream->capture == nullptr || !stream->blocking) continue;
        stream->capture->invalidated = true;
        error = cudaErrorStreamCaptureImplicit;
    }
    return error;
}

void end_capture(const std::shared_ptr<Capture>& capture) {
    for (CUstream_st* stream : streams().known) {
        if (stream->capture != capture) continue;
        stream->capture = nullptr;
        stream->unjoined = false;
    }
    auto& captures = streams().captures;
    captures.erase(std::remove(captures.begin(), captures.end(), capture), captures.end());
}

}  // namespace

cudaError_t submit(cudaStream_t handle, Work work) {
    cudaStream_t stream = resolve(handle);
    {
        const std::lock_guard lock(streams().mutex);
        if (is_legacy(stream)) {
            const cudaError_t error = check_legacy();
            if (error != cudaSuccess) return result(error);
        } else if (!is_known(stream)) {
            return result(cudaErrorInvalidResourceHandle);
        } else if (stream->capture != nullptr) {
            if (stream->capture->invalidated) return result(cudaErrorStreamCaptureInvalidated);
            stream->capture->nodes.push_back(std::move(work));
            ++stream->recorded;
            stream->unjoined = stream->capture->origin != stream;
            return cudaSuccess;
        }
    }
    return work();
}

cudaError_t forbid_during_capture(ForbiddenBy which) {
    const std::lock_guard lock(streams().mutex);
    cudaError_t error = cudaSuccess;
    for (const auto& capture : streams().captures) {
        const bool forbids =
            which == ForbiddenBy::kAnyCapture || capture->mode == cudaStreamCaptureModeGlobal ||
            (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread == std::this_thread::get_id());
        if (!forbids) continue;
        capture->invalidated = true;
        error = cudaErrorStreamCaptureUnsupported;
    }
    return error;
}

cudaError_t forbid_while_capturing(cudaStream_t handle) {
    cudaStream_t stream = resolve(handle);
    const std::lock_guard lock(streams().mutex);
    if (is_legacy(stream)) return check_legacy();
    if (!is_known(stream)) return cudaErrorInvalidResourceHandle;
    if (stream->capture == nullptr) return cudaSuccess;
    stream->capture->invalidated = true;
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t record_event(cudaStream_t handle, RecordedIn& out) {
    cudaStream_t stream = resolve(handle);
    const std::lock_guard lock(streams().mutex);
    out = {};
    if (is_legacy(stream)) return check_legacy();
    if (!is_known(stream)) return cudaErrorInvalidResourceHandle;
    out = {stream->capture, stream, stream->recorded};
    return cudaSuccess;
}

cudaError_t wait_for(cudaStream_t handle, const RecordedIn& event) {
    cudaStream_t stream = resolve(handle);
    const std::lock_guard lock(streams().mutex);
    if (is_legacy(stream)) return event.capture == nullptr ? check_legacy() : cudaErrorStreamCaptureUnsupported;
    if (!is_known(stream)) return cudaErrorInvalidResourceHandle;
    if (event.capture == nullptr) {
        if (stream->capture == nullptr) return cudaSuccess;
        stream->capture->invalidated = true;
        return cudaErrorStreamCaptureIsolation;
    }
    if (event.capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    if (stream->capture != nullptr && stream->capture != event.capture) {
        stream->capture->invalidated = event.capture->invalidated = true;
        return cudaErrorStreamCaptureMerge;
    }
    const auto& captures = streams().captures;
    if (std::find(captures.begin(), captures.end(), event.capture) == captures.end()) return cudaErrorCapturedEvent;
    if (stream->capture == nullptr) stream->capture = event.capture;
    stream->unjoined = event.capture->origin != stream;
    if (is_known(event.stream) && event.stream != stream && event.stream->recorded == event.recorded) {
        event.stream->unjoined = false;
    }
    return cudaSuccess;
}

}  // namespace moek::emulation

using namespace moek::emulation;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    const std::lock_guard lock(streams().mutex);
    *stream = new CUstream_st{(flags & cudaStreamNonBlocking) == 0, nullptr};
    streams().known.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const std::lock_guard lock(streams().mutex);
    if (streams().known.erase(stream) == 0) return result(cudaErrorInvalidResourceHandle);
    if (stream->capture != nullptr) {
        stream->capture->invalidated = true;
        if (stream->capture->origin == stream) end_capture(std::shared_ptr<Capture>(stream->capture));
    }
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return result(forbid_while_capturing(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    const cudaError_t error = forbid_during_capture(ForbiddenBy::kUnsafeCall);
    return result(error != cudaSuccess ? error : forbid_while_capturing(stream));
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
    cudaStream_t stream = resolve(handle);
    const std::lock_guard lock(streams().mutex);
    if (is_legacy(stream)) return result(cudaErrorStreamCaptureUnsupported);
    if (!is_known(stream)) return result(cudaErrorInvalidResourceHandle);
    if (stream->capture != nullptr) return result(cudaErrorIllegalState);
    auto capture = std::make_shared<Capture>();
    capture->origin = stream;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    stream->capture = capture;
    streams().captures.push_back(std::move(capture));
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
    *graph = nullptr;
    cudaStream_t stream = resolve(handle);
    const std::lock_guard lock(streams().mutex);
    if (is_legacy(stream) || !is_known(stream)) return result(cudaErrorInvalidResourceHandle);
    const std::shared_ptr<Capture> capture = stream->capture;
    if (capture == nullptr) return result(cudaErrorIllegalState);
    if (capture->origin != stream) {
        capture->invalidated = true;
        return result(cudaErrorStreamCaptureUnmatched);
    }
    if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
        return result(cudaErrorStreamCaptureWrongThread);
    }
    const bool unjoined = std::any_of(streams().known.begin(), streams().known.end(), [&](const CUstream_st* other) {
        return other->capture == capture && other->unjoined;
    });
    end_capture(capture);
    if (capture->invalidated) return result(cudaErrorStreamCaptureInvalidated);
    if (unjoined) return result(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{std::move(capture->nodes)};
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
    cudaStream_t stream = resolve(handle);
    const std::lock_guard lock(streams().mutex);
    *status = cudaStreamCaptureStatusNone;
    if (is_legacy(stream)) return result(check_legacy());
    if (!is_known(stream)) return result(cudaErrorInvalidResourceHandle);
    if (stream->capture != nullptr) {
        *status = stream->capture->invalidated ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    }
    return cudaSuccess;
}
