#include "cuda/common/device.hpp"
#include "cuda/common/error.hpp"
#include "cuda/device/memory.hpp"
#include "cuda/device/stream.hpp"

namespace moek::cuda {
namespace {

cudaMemcpyKind direction_of(int32_t kind) {
    switch (kind) {
        case MOEK_COPY_KIND_HOST_TO_DEVICE:
            return cudaMemcpyHostToDevice;
        case MOEK_COPY_KIND_DEVICE_TO_HOST:
            return cudaMemcpyDeviceToHost;
        default:
            return cudaMemcpyDeviceToDevice;
    }
}

}  // namespace

moek_status memory_query(void* state, uint64_t* out_free, uint64_t* out_total) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        size_t free = 0;
        size_t total = 0;
        check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
        *out_free = free;
        *out_total = total;
    });
}

moek_status memory_allocate(void* state, uint64_t bytes, void** out_memory) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        void* memory = nullptr;
        check(cudaMalloc(&memory, bytes), "cudaMalloc");
        *out_memory = memory;
    });
}

moek_status memory_free(void* state, void* memory) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        check(cudaFree(memory), "cudaFree");
    });
}

moek_status memory_copy(void* state, void* destination, const void* source, uint64_t bytes, int32_t kind,
                        void* stream) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        const bool is_within_device = kind == MOEK_COPY_KIND_DEVICE_TO_DEVICE;
        // The host's memory is the caller's again when this returns, which a graph that reads it later would not know.
        if (!is_within_device) {
            require_not_captured(stream, "a copy to or from the host waits for its end, which a graph cannot");
        }
        check(cudaMemcpyAsync(destination, source, bytes, direction_of(kind), stream_of(stream)), "cudaMemcpyAsync");
        if (!is_within_device) check(cudaStreamSynchronize(stream_of(stream)), "cudaStreamSynchronize");
    });
}

moek_status memory_set(void* state, void* destination, int32_t value, uint64_t bytes, void* stream) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        check(cudaMemsetAsync(destination, value, bytes, stream_of(stream)), "cudaMemsetAsync");
    });
}

}  // namespace moek::cuda
