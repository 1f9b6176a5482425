#include <chrono>

#include "emulation/runtime/api.hpp"
#include "emulation/runtime/capture.hpp"
#include "emulation/runtime/error.hpp"

using namespace moek::emulation;

struct CUevent_st {
    bool timed;
    bool recorded = false;
    std::chrono::steady_clock::time_point time;
    RecordedIn where;
};

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
    *event = new CUevent_st{(flags & cudaEventDisableTiming) == 0, false, {}, {}};
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
    const cudaError_t error = record_event(stream, event->where);
    if (error != cudaSuccess) return result(error);
    event->recorded = true;
    event->time = std::chrono::steady_clock::now();
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
    if (!event->recorded) return cudaSuccess;
    return result(wait_for(stream, event->where));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
    return result(event->where.capture != nullptr ? cudaErrorCapturedEvent : cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    const cudaError_t error = forbid_during_capture(ForbiddenBy::kUnsafeCall);
    return error != cudaSuccess ? result(error) : cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    for (const CUevent_st* event : {start, end}) {
        if (event == nullptr || !event->recorded || !event->timed) return result(cudaErrorInvalidResourceHandle);
        if (event->where.capture != nullptr) return result(cudaErrorCapturedEvent);
    }
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return cudaSuccess;
}
