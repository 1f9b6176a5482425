// The backend's part of a context: one device and what a plan asks about it.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "core/backend.hpp"
#include "cuda/common/error.hpp"
#include "cuda/common/tensor_map.hpp"

namespace moek::cuda {

struct Device {
    int index;
    int sm_count;
    int capability;                       // 80 for 8.0
    int shared_memory_per_block_optin;    // bytes a kernel may ask for
    int most_cluster_blocks;              // of products that share operands within clusters; 1: none do
    TensorMapEncoder tensor_map_encoder;  // there when they do
    moek_backend_log log;
    void* log_sink;
};

inline const Device& device_of(void* state) {
    return *static_cast<const Device*>(state);
}

// Makes the context's device the thread's current one, and the former one current again when it goes.
class DeviceGuard {
  public:
    explicit DeviceGuard(const Device& device) {
        check(cudaGetDevice(&former_), "cudaGetDevice");
        if (former_ == device.index) return;
        check(cudaSetDevice(device.index), "cudaSetDevice");
        changed_ = true;
    }
    ~DeviceGuard() {
        if (changed_) cudaSetDevice(former_);
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    int former_ = 0;
    bool changed_ = false;
};

// What no op offers on a GPU.
inline void require_not_f64(int32_t dtype) {
    if (dtype == MOEK_DTYPE_F64) fail_unsupported("f64 runs on the CPU only");
}
inline void require_not_strict(uint32_t flags) {
    if ((flags & MOEK_CALL_FLAG_STRICT) != 0) {
        fail_unsupported(
            "MOEK_CALL_FLAG_STRICT runs on the CPU only: a GPU cannot report a NaN without waiting for it");
    }
}

// More blocks than a grid holds; below it no size of a workspace overflows.
inline void require_tokens(int64_t T) {
    constexpr int64_t kMostTokens = int64_t{1} << 37;
    if (T > kMostTokens) {
        throw Error(MOEK_STATUS_CODE_INVALID_ARGUMENT,
                    "T: got " + std::to_string(T) + ", expected up to " + std::to_string(kMostTokens) + " on a GPU");
    }
}

// Blocks of 128 columns are counted by a grid's second dimension.
inline void require_width(const char* name, int64_t width) {
    constexpr int64_t kMostWidth = int64_t{128} * 65535;
    if (width > kMostWidth) {
        fail_unsupported(std::string(name) + ": got " + std::to_string(width) + ", a GPU takes up to " +
                         std::to_string(kMostWidth));
    }
}

inline cudaStream_t stream_of(void* stream) {
    return static_cast<cudaStream_t>(stream);
}

}  // namespace moek::cuda
