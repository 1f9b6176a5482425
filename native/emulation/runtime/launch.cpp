#include "emulation/launch.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "emulation/execution/scheduler.hpp"
#include "emulation/runtime/api.hpp"
#include "emulation/runtime/capture.hpp"
#include "emulation/runtime/device.hpp"
#include "emulation/runtime/error.hpp"

namespace moek::emulation {
namespace {

struct KernelRecord {
    bool asked = false;  // whether cudaFuncSetAttribute was called
    size_t dynamic_limit = kDefaultSharedBytes;
    size_t static_seen = 0;
};

struct Kernels {
    std::mutex mutex;
    std::map<const void*, KernelRecord> records;
};

Kernels& kernels() {
    static Kernels value;
    return value;
}

KernelRecord record_of(const void* kernel) {
    const std::lock_guard lock(kernels().mutex);
    return kernels().records[kernel];
}

std::string text_of(const dim3& size) {
    return std::to_string(size.x) + " x " + std::to_string(size.y) + " x " + std::to_string(size.z);
}

cudaError_t check_shape(const dim3& grid, const dim3& block) {
    const uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
    if (block.x == 0 || block.y == 0 || block.z == 0 || block.x > 1024 || block.y > 1024 || block.z > 64 ||
        threads > 1024) {
        return result(cudaErrorInvalidConfiguration,
                      "a block of " + text_of(block) + " threads, expected 1..1024 in all, at most 64 in z");
    }
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535) {
        return result(cudaErrorInvalidConfiguration, "a grid of " + text_of(grid) +
                                                         " blocks, expected at least 1 in each dimension, at most "
                                                         "2147483647 in x and 65535 in y and z");
    }
    return cudaSuccess;
}

cudaError_t check_cluster(const dim3& grid, unsigned cluster) {
    constexpr unsigned kMostBlocks = 8;  // that every device with clusters takes
    if (cluster == 0 || cluster > kMostBlocks || grid.x % cluster != 0) {
        return result(cudaErrorInvalidClusterSize,
                      "clusters of " + std::to_string(cluster) + " blocks along a grid of " + std::to_string(grid.x) +
                          ", expected at most " + std::to_string(kMostBlocks) + " and a divisor");
    }
    if (cluster > 1 && emulated_device().capability < 90) {
        return result(cudaErrorInvalidClusterSize, "clusters need compute capability 9.0");
    }
    return cudaSuccess;
}

cudaError_t run(const void* kernel, const KernelShape& shape, const std::function<void()>& body) {
    Scheduler& scheduler = Scheduler::instance();
    if (scheduler.running()) return result(cudaErrorNotSupported, "a kernel launches a kernel");
    void* argument = const_cast<void*>(static_cast<const void*>(&body));
    const Outcome outcome = scheduler.run(
        shape, [](void* function) { (*static_cast<const std::function<void()>*>(function))(); }, argument);
    {
        const std::lock_guard lock(kernels().mutex);
        size_t& seen = kernels().records[kernel].static_seen;
        seen = std::max(seen, outcome.static_bytes);
    }
    return outcome.error == cudaSuccess ? cudaSuccess : result(outcome.error, outcome.text);
}

}  // namespace

cudaError_t launch_kernel(const void* kernel, dim3 grid, dim3 block, unsigned cluster, size_t shared_bytes,
                          cudaStream_t stream, std::function<void()> body) {
    const cudaError_t error = check_shape(grid, block);
    if (error != cudaSuccess) return error;
    const cudaError_t cluster_error = check_cluster(grid, cluster);
    if (cluster_error != cudaSuccess) return cluster_error;
    // Unless a kernel asked for more, all its shared memory fits in 48 KiB; after that, what it asked for and what it
    // declares fit in what a block may have.
    const KernelRecord record = record_of(kernel);
    if (shared_bytes > record.dynamic_limit) {
        return result(cudaErrorInvalidValue,
                      std::to_string(shared_bytes) + " bytes of dynamic shared memory, expected at most " +
                          std::to_string(record.dynamic_limit) + "; cudaFuncSetAttribute raises the limit");
    }
    const KernelShape shape = {
        grid, block, shared_bytes,
        record.asked ? std::min(kDefaultSharedBytes, emulated_device().shared_optin_bytes - record.dynamic_limit)
                     : kDefaultSharedBytes - shared_bytes,
        cluster};
    return submit(stream, [kernel, shape, body = std::move(body)] { return run(kernel, shape, body); });
}

}  // namespace moek::emulation

using namespace moek::emulation;

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
    if (kernel == nullptr) return result(cudaErrorInvalidDeviceFunction);
    switch (attribute) {
        case cudaFuncAttributePreferredSharedMemoryCarveout:
            return result(value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue);
        case cudaFuncAttributeMaxDynamicSharedMemorySize: {
            const size_t limit = emulated_device().shared_optin_bytes;
            if (value < 0 || static_cast<size_t>(value) > limit) {
                return result(
                    cudaErrorInvalidValue,
                    std::to_string(value) + " bytes of dynamic shared memory, expected 0.." + std::to_string(limit));
            }
            const std::lock_guard lock(kernels().mutex);
            KernelRecord& record = kernels().records[kernel];
            record.asked = true;
            record.dynamic_limit = static_cast<size_t>(value);
            return cudaSuccess;
        }
    }
    return result(cudaErrorInvalidValue);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
    if (kernel == nullptr) return result(cudaErrorInvalidDeviceFunction);
    const KernelRecord record = record_of(kernel);
    attributes->sharedSizeBytes = record.static_seen;
    attributes->maxThreadsPerBlock = 1024;
    attributes->maxDynamicSharedSizeBytes = static_cast<int>(record.dynamic_limit);
    return cudaSuccess;
}
