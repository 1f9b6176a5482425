#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "cuda/common/device.hpp"
#include "cuda/common/error.hpp"
#include "cuda/device/device.hpp"

namespace moek::cuda {
namespace {

// The oldest GPUs whose tensor cores and asynchronous copies the kernels are written for.
constexpr int kLeastCapability = 80;

int attribute(cudaDeviceAttr which, int device) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
    return value;
}

int count_devices() {
    int count = 0;
    check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    if (count == 0) check(cudaErrorNoDevice, "cudaGetDeviceCount");
    return count;
}

std::string capability_text(int capability) {
    return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
}

// For measurements: products share operands within clusters of up to so many blocks. Results are the same, bit for bit.
constexpr const char* kClustersVariable = "MOEKERNELS_CUDA_CLUSTERS";
// Newer GPUs would take the same instructions, but not all of them multicast.
constexpr int kClusterCapability = 90;

int asked_cluster_blocks() {
    const char* const value = std::getenv(kClustersVariable);
    const std::string text = value == nullptr ? "" : value;
    if (text.empty() || text == "0") return 1;
    if (text == "2" || text == "4") return text[0] - '0';
    throw Error(MOEK_STATUS_CODE_INVALID_ARGUMENT,
                std::string(kClustersVariable) + ": got '" + text + "', expected 0, 2 or 4");
}

void choose_clusters(Device& device) {
    device.most_cluster_blocks = 1;
    device.tensor_map_encoder = nullptr;
    const int asked = asked_cluster_blocks();
    if (asked == 1) return;
    const std::string what = std::string(kClustersVariable) + "=" + std::to_string(asked);
    if (device.capability != kClusterCapability) {
        device.log(device.log_sink, MOEK_LOG_LEVEL_WARNING,
                   (what + " has no effect: device " + std::to_string(device.index) + " has compute capability " +
                    capability_text(device.capability) + ", clusters are for " + capability_text(kClusterCapability))
                       .c_str());
        return;
    }
    device.tensor_map_encoder = find_tensor_map_encoder();
    if (device.tensor_map_encoder == nullptr) {
        device.log(device.log_sink, MOEK_LOG_LEVEL_WARNING,
                   (what + " has no effect: the driver makes no tensor maps").c_str());
        return;
    }
    device.most_cluster_blocks = asked;
    device.log(
        device.log_sink, MOEK_LOG_LEVEL_INFORMATION,
        (what + ": products share operands within clusters of up to " + std::to_string(asked) + " blocks").c_str());
}

}  // namespace

moek_status device_count(int32_t* out_count) {
    return guarded([&] { *out_count = count_devices(); });
}

moek_status device_query(int32_t device_index, moek_device_info* out_info) {
    return guarded([&] {
        cudaDeviceProp properties;
        check(cudaGetDeviceProperties(&properties, device_index), "cudaGetDeviceProperties");
        out_info->core_count = properties.multiProcessorCount;
        out_info->capability_major = properties.major;
        out_info->capability_minor = properties.minor;
        out_info->total_memory = properties.totalGlobalMem;
        std::memcpy(out_info->name, properties.name,
                    std::min(std::strlen(properties.name), sizeof(out_info->name) - 1));
    });
}

moek_status state_create(const moek_context_options* options, moek_backend_log log, void* sink, moek_context_info* info,
                         void** out_state) {
    return guarded([&] {
        const int count = count_devices();
        if (options->isa != MOEK_ISA_AUTO) {
            throw Error(MOEK_STATUS_CODE_INVALID_ARGUMENT,
                        "isa: got " + std::to_string(options->isa) + ", expected MOEK_ISA_AUTO (0) on a CUDA device");
        }
        if (options->thread_count != 0) {
            throw Error(MOEK_STATUS_CODE_INVALID_ARGUMENT,
                        "thread_count: got " + std::to_string(options->thread_count) + ", expected 0 on a CUDA device");
        }
        if (options->device_index >= count) {
            throw Error(MOEK_STATUS_CODE_INVALID_ARGUMENT, "device_index: got " +
                                                               std::to_string(options->device_index) +
                                                               ", expected 0.." + std::to_string(count - 1));
        }
        auto device = std::make_unique<Device>();
        device->index = options->device_index;
        device->sm_count = attribute(cudaDevAttrMultiProcessorCount, device->index);
        device->capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor, device->index) +
                             attribute(cudaDevAttrComputeCapabilityMinor, device->index);
        device->shared_memory_per_block_optin = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device->index);
        device->log = log;
        device->log_sink = sink;
        if (device->capability < kLeastCapability) {
            throw Error(MOEK_STATUS_CODE_BACKEND_UNAVAILABLE, "device " + std::to_string(device->index) +
                                                                  " has compute capability " +
                                                                  capability_text(device->capability) + ", expected " +
                                                                  capability_text(kLeastCapability) + " or newer");
        }
        choose_clusters(*device);
        info->thread_count = 0;
        info->isa = MOEK_ISA_AUTO;
        *out_state = device.release();
    });
}

void state_destroy(void* state) {
    delete static_cast<Device*>(state);
}

}  // namespace moek::cuda
