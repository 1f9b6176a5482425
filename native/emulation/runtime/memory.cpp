#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "emulation/runtime/api.hpp"
#include "emulation/runtime/capture.hpp"
#include "emulation/runtime/device.hpp"
#include "emulation/runtime/error.hpp"

namespace moek::emulation {
namespace {

struct Allocation {
    size_t bytes;
    cudaMemoryType type;
    bool owned;  // and not registered host memory of somebody else
};

struct Allocations {
    std::mutex mutex;
    std::map<const char*, Allocation> by_address;
    size_t device_bytes = 0;
};

Allocations& allocations() {
    static Allocations value;
    return value;
}

// Each allocation is one of malloc's, so that AddressSanitizer sees accesses beside it, and full of NaN.
cudaError_t allocate(void** address, size_t bytes, cudaMemoryType type) {
    *address = nullptr;
    const cudaError_t forbidden = forbid_during_capture(ForbiddenBy::kUnsafeCall);
    if (forbidden != cudaSuccess) return result(forbidden);
    if (bytes == 0) return cudaSuccess;
    const std::lock_guard lock(allocations().mutex);
    constexpr size_t kAlignment = 256;
    if (bytes > emulated_device().memory_bytes - allocations().device_bytes ||
        posix_memalign(address, kAlignment, bytes) != 0) {
        *address = nullptr;
        return result(cudaErrorMemoryAllocation);
    }
    std::memset(*address, 0xFF, bytes);
    allocations().by_address[static_cast<const char*>(*address)] = {bytes, type, true};
    if (type == cudaMemoryTypeDevice) allocations().device_bytes += bytes;
    return cudaSuccess;
}

cudaError_t release(void* address, cudaMemoryType type, bool owned, cudaError_t unknown) {
    const cudaError_t forbidden = forbid_during_capture(ForbiddenBy::kUnsafeCall);
    if (forbidden != cudaSuccess) return result(forbidden);
    if (address == nullptr) return cudaSuccess;
    const std::lock_guard lock(allocations().mutex);
    auto& by_address = allocations().by_address;
    const auto found = by_address.find(static_cast<const char*>(address));
    if (found == by_address.end() || found->second.type != type || found->second.owned != owned) return result(unknown);
    if (type == cudaMemoryTypeDevice) allocations().device_bytes -= found->second.bytes;
    by_address.erase(found);
    if (owned) std::free(address);
    return cudaSuccess;
}

}  // namespace
}  // namespace moek::emulation

using namespace moek::emulation;

cudaError_t cudaMalloc(void** address, size_t bytes) {
    return allocate(address, bytes, cudaMemoryTypeDevice);
}

cudaError_t cudaFree(void* address) {
    return release(address, cudaMemoryTypeDevice, true, cudaErrorInvalidValue);
}

cudaError_t cudaMallocHost(void** address, size_t bytes) {
    return allocate(address, bytes, cudaMemoryTypeHost);
}

cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned) {
    return allocate(address, bytes, cudaMemoryTypeHost);
}

cudaError_t cudaFreeHost(void* address) {
    return release(address, cudaMemoryTypeHost, true, cudaErrorInvalidValue);
}

cudaError_t cudaHostRegister(void* address, size_t bytes, unsigned) {
    const cudaError_t forbidden = forbid_during_capture(ForbiddenBy::kUnsafeCall);
    if (forbidden != cudaSuccess) return result(forbidden);
    if (address == nullptr || bytes == 0) return result(cudaErrorInvalidValue);
    const std::lock_guard lock(allocations().mutex);
    const Allocation allocation = {bytes, cudaMemoryTypeHost, false};
    const bool added = allocations().by_address.emplace(static_cast<const char*>(address), allocation).second;
    return result(added ? cudaSuccess : cudaErrorHostMemoryAlreadyRegistered);
}

cudaError_t cudaHostUnregister(void* address) {
    return release(address, cudaMemoryTypeHost, false, cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
    const std::lock_guard lock(allocations().mutex);
    *total_bytes = emulated_device().memory_bytes;
    *free_bytes = *total_bytes - allocations().device_bytes;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
    const std::lock_guard lock(allocations().mutex);
    *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, const_cast<void*>(address)};
    auto& by_address = allocations().by_address;
    auto found = by_address.upper_bound(static_cast<const char*>(address));
    if (found == by_address.begin()) return cudaSuccess;
    --found;
    if (static_cast<const char*>(address) >= found->first + found->second.bytes) return cudaSuccess;
    attributes->type = found->second.type;
    attributes->device = 0;
    attributes->devicePointer = const_cast<void*>(address);
    if (attributes->type == cudaMemoryTypeDevice) attributes->hostPointer = nullptr;
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t stream) {
    if (address == nullptr && bytes != 0) return result(cudaErrorInvalidValue);
    return submit(stream, [=] {
        if (bytes != 0) std::memset(address, value, bytes);
        return cudaSuccess;
    });
}

cudaError_t cudaMemset(void* address, int value, size_t bytes) {
    return cudaMemsetAsync(address, value, bytes, nullptr);
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return result(cudaErrorInvalidMemcpyDirection);
    if ((target == nullptr || source == nullptr) && bytes != 0) return result(cudaErrorInvalidValue);
    return submit(stream, [=] {
        if (bytes != 0) std::memmove(target, source, bytes);
        return cudaSuccess;
    });
}

cudaError_t cudaMemcpy(void* target, const void* source, size_t bytes, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(target, source, bytes, kind, nullptr);
}
