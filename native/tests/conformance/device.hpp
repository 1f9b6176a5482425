// Device memory and random words for the cases.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "cuda/common/error.hpp"
#include "cuda/common/launch.hpp"

namespace moek::conformance {

// An array in device memory, made from the host's or full of zeros.
template <class T>
class DeviceArray {
  public:
    explicit DeviceArray(size_t count) : DeviceArray(std::vector<T>(count)) {}
    explicit DeviceArray(const std::vector<T>& values) : count_(values.size()) {
        cuda::check(cudaMalloc(reinterpret_cast<void**>(&data_), bytes()), "cudaMalloc");
        cuda::check(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
    }
    ~DeviceArray() { cudaFree(data_); }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;

    T* data() const { return data_; }
    size_t size() const { return count_; }
    // Waits for the kernels before.
    std::vector<T> values() const {
        std::vector<T> result(count_);
        cuda::check(cudaMemcpy(result.data(), data_, bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy");
        return result;
    }

  private:
    size_t bytes() const { return count_ * sizeof(T); }

    size_t count_;
    T* data_ = nullptr;
};

// The same sequence on every machine (splitmix64).
class Words {
  public:
    explicit Words(uint64_t seed) : state_(seed) {}

    uint32_t next() {
        state_ += 0x9E3779B97F4A7C15u;
        uint64_t word = state_;
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
        word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
        return static_cast<uint32_t>((word ^ (word >> 31)) >> 16);
    }
    std::vector<uint32_t> next(size_t count) {
        std::vector<uint32_t> words(count);
        for (uint32_t& word : words) word = next();
        return words;
    }
    // In -1 .. 1, with 24 bits.
    float fraction() { return static_cast<float>(static_cast<int32_t>(next()) >> 8) * 0x1p-23f; }

  private:
    uint64_t state_;
};

inline float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

inline uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}

// Floats at which something changes: zeros, subnormals, ones, the largest, infinities, NaNs of several kinds, and values
// around the borders of bf16, f16 and tf32.
inline std::vector<uint32_t> special_floats() {
    std::vector<uint32_t> result;
    for (uint32_t magnitude :
         {0x00000000u, 0x00000001u, 0x00000FFFu, 0x00001000u, 0x00001001u, 0x00007FFFu, 0x00008000u, 0x00008001u,
          0x007FFFFFu, 0x00800000u, 0x32FFFFFFu, 0x33000000u, 0x33000001u, 0x337FFFFFu, 0x33800000u, 0x33C00000u,
          0x387FDFFFu, 0x387FE000u, 0x387FF000u, 0x38800000u, 0x3F7FFFFFu, 0x3F800000u, 0x3F800FFFu, 0x3F801000u,
          0x3F801001u, 0x3F807FFFu, 0x3F808000u, 0x3F808001u, 0x3F818000u, 0x477FDFFFu, 0x477FE000u, 0x477FEFFFu,
          0x477FF000u, 0x477FFFFFu, 0x47800000u, 0x7F7F7FFFu, 0x7F7F8000u, 0x7F7FEFFFu, 0x7F7FF000u, 0x7F7FFFFFu,
          0x7F800000u, 0x7F800001u, 0x7F801000u, 0x7FC00000u, 0x7FC12345u, 0x7FFFFFFFu}) {
        result.push_back(magnitude);
        result.push_back(magnitude | 0x80000000u);
    }
    return result;
}

}  // namespace moek::conformance
