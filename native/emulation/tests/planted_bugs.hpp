// Kernels with a bug of each kind that a GPU would forgive most of the time, and a run that tells whether it did harm.
#pragma once

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "cuda/common/shared_memory.hpp"
#include "emulation/tests/gemm_case.hpp"

namespace moek::emulation::test {

enum class Bug {
    kNone,
    kReadBesideShared,
    kReadBesideGlobal,
    kUseBeforeWrite,
    kNoBarrierAfterZeroing,
    kNoAtomic,
    kLaneLeavesEarly,
    kNoSyncWarp,
    kNoFence,
};

// Counts the values 0..63 of all blocks; each block counts in shared memory first.
template <Bug kBug>
__global__ void histogram(const int* values, int count, int* counts) {
    MOEK_SHARED(int, partial, 64);
    if (kBug != Bug::kUseBeforeWrite) {
        for (unsigned i = threadIdx.x; i < 64; i += blockDim.x) partial[i] = 0;
    }
    if (kBug != Bug::kNoBarrierAfterZeroing) __syncthreads();
    for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < count;
         i += static_cast<int>(gridDim.x * blockDim.x)) {
        atomicAdd(&partial[values[i]], 1);
    }
    __syncthreads();
    const int* const end = partial + 64;
    if (kBug == Bug::kReadBesideShared && threadIdx.x == 0) counts[0] += *end == 12345;
    for (unsigned i = threadIdx.x; i < 64; i += blockDim.x) {
        if (kBug == Bug::kNoAtomic) {
            counts[i] += partial[i];
        } else {
            atomicAdd(&counts[i], partial[i]);
        }
    }
}

// Exchanges neighbours through shared memory.
template <Bug kBug>
__global__ void neighbours(const int* in, int* out) {
    MOEK_SHARED(int, buffer, 64);
    buffer[threadIdx.x] = in[threadIdx.x];
    if (kBug != Bug::kNoSyncWarp) __syncwarp();
    out[threadIdx.x] = buffer[threadIdx.x ^ 1];
}

// Adds up a warp; one lane leaves before the others have its number.
template <Bug kBug>
__global__ void warp_total(const int* in, int* out) {
    int sum = in[threadIdx.x];
    for (int distance = 16; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(0xFFFFFFFFu, sum, distance);
        if (kBug == Bug::kLaneLeavesEarly && threadIdx.x == 7 && distance == 4) return;
    }
    out[threadIdx.x] = sum;
}

// The last block adds up what every block has left in `partial`.
template <Bug kBug>
__global__ void total_of_blocks(const int* in, int* partial, unsigned* arrived, int* out) {
    if (threadIdx.x != 0) return;
    partial[blockIdx.x] = in[blockIdx.x];
    if (kBug != Bug::kNoFence) __threadfence();
    if (atomicAdd(arrived, 1u) != gridDim.x - 1) return;
    if (kBug != Bug::kNoFence) __threadfence();
    int sum = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += partial[i];
    *out = sum;
}

// Copies with one element too many.
template <Bug kBug>
__global__ void copy_all(const float* in, float* out, int count) {
    const int i = static_cast<int>(threadIdx.x);
    if (kBug == Bug::kReadBesideGlobal ? i <= count : i < count) out[i] = in[i];
}

// Whether the kernel with the bug did what the one without would: runs it, and compares.
template <Bug kBug>
bool histogram_is_right() {
    std::vector<int> values(1000), counts(64), expected(64);
    for (int i = 0; i < 1000; ++i) ++expected[static_cast<size_t>(values[static_cast<size_t>(i)] = i * 7 % 61)];
    return launch(histogram<kBug>, 4, 128, 0, nullptr, values.data(), 1000, counts.data()) == cudaSuccess &&
           counts == expected;
}

template <Bug kBug>
bool neighbours_are_right() {
    std::vector<int> in(64), out(64), expected(64);
    for (size_t i = 0; i < 64; ++i) expected[i ^ 1] = in[i] = static_cast<int>(3 * i + 1);
    return launch(neighbours<kBug>, 1, 64, 0, nullptr, in.data(), out.data()) == cudaSuccess && out == expected;
}

template <Bug kBug>
bool warp_total_is_right() {
    std::vector<int> in(32), out(32);
    std::iota(in.begin(), in.end(), 0);
    return launch(warp_total<kBug>, 1, 32, 0, nullptr, in.data(), out.data()) == cudaSuccess &&
           out == std::vector<int>(32, 496);
}

template <Bug kBug>
bool total_of_blocks_is_right() {
    std::vector<int> in(8), partial(8);
    std::iota(in.begin(), in.end(), 1);
    unsigned arrived = 0;
    int out = 0;
    return launch(total_of_blocks<kBug>, 8, 32, 0, nullptr, in.data(), partial.data(), &arrived, &out) == cudaSuccess &&
           out == 36;
}

template <Bug kBug>
bool copy_is_right() {
    constexpr int kCount = 10;
    float* in = nullptr;
    float* out = nullptr;
    cudaMalloc(&in, kCount * sizeof(float));
    cudaMalloc(&out, (kCount + 1) * sizeof(float));
    for (int i = 0; i < kCount; ++i) in[i] = static_cast<float>(i);
    const bool right =
        launch(copy_all<kBug>, 1, 32, 0, nullptr, in, out, kCount) == cudaSuccess && out[kCount - 1] == kCount - 1;
    cudaFree(in);
    cudaFree(out);
    return right;
}

}  // namespace moek::emulation::test
