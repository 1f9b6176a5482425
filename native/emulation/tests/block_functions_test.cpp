// Barriers, shared memory, indices and atomics of a block, and the reports on what goes wrong.
#include <cstdint>
#include <numeric>

#include "cuda/common/shared_memory.hpp"
#include "emulation/tests/support.hpp"

// As in a debug build, whatever this one is.
#undef NDEBUG
#include <cassert>

namespace moek::emulation::test {
namespace {

__global__ void indices(unsigned* out) {
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread;
}

TEST(Launch, RunsEveryThreadOfTheGridOnce) {
    for (unsigned seed : {0u, 1u}) {
        for (unsigned resident : {1u, 3u}) {
            const Schedule schedule(seed, 0, resident);
            std::vector<unsigned> out(24 * 60);
            run(indices, dim3(2, 3, 4), dim3(5, 4, 3), out.data());
            for (unsigned i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], i / 60 * 1000 + i % 60);
        }
    }
}

// The sum of all threads through shared memory, in log2 steps with a barrier between.
__global__ void block_sum(const int* values, int* out) {
    MOEK_SHARED(int, partial, 1024);
    const unsigned thread = threadIdx.x;
    partial[thread] = values[blockIdx.x * blockDim.x + thread];
    __syncthreads();
    for (unsigned distance = blockDim.x / 2; distance > 0; distance /= 2) {
        if (thread < distance) partial[thread] += partial[thread + distance];
        __syncthreads();
    }
    if (thread == 0) out[blockIdx.x] = partial[0];
}

TEST(Barrier, OrdersSharedMemory) {
    std::vector<int> values(2 * 1024);
    std::iota(values.begin(), values.end(), -500);
    for (unsigned seed : {0u, 1u, 2u, 3u}) {
        const Schedule schedule(seed, 5);
        std::vector<int> out(2);
        run(block_sum, 2, 1024, values.data(), out.data());
        for (int block = 0; block < 2; ++block) {
            EXPECT_EQ(out[static_cast<size_t>(block)], 1024 * (block * 1024 - 500) + 1023 * 512);
        }
    }
}

__global__ void predicates(int* out, unsigned limit) {
    const unsigned thread = threadIdx.x;
    const int mine = thread < limit ? 5 : 0;
    out[thread] = __syncthreads_count(mine);
    out[blockDim.x + thread] = __syncthreads_and(mine);
    out[2 * blockDim.x + thread] = __syncthreads_or(mine);
}

TEST(Barrier, TellsAboutPredicates) {
    for (unsigned seed : {0u, 1u}) {
        const Schedule schedule(seed, 10);
        for (unsigned limit : {0u, 1u, 77u, 96u}) {
            std::vector<int> out(3 * 96);
            run(predicates, 1, 96, out.data(), limit);
            for (size_t thread = 0; thread < 96; ++thread) {
                EXPECT_EQ(out[thread], static_cast<int>(limit));
                EXPECT_EQ(out[96 + thread], limit == 96 ? 1 : 0);
                EXPECT_EQ(out[192 + thread], limit != 0 ? 1 : 0);
            }
        }
    }
}

__global__ void early_exit(int* out) {
    if (threadIdx.x % 2 == 1) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

TEST(Barrier, WaitsForTheThreadsThatAreLeft) {
    std::vector<int> out(64);
    run(early_exit, 1, 64, out.data());
    EXPECT_EQ(std::accumulate(out.begin(), out.end(), 0), 32);
}

__global__ void shared_arrays(int* out) {
    MOEK_SHARED(float, numbers, 3);
    MOEK_SHARED(int, counts, 5);
    MOEK_DYNAMIC_SHARED(unsigned char, bytes);
    const auto address = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); };
    if (threadIdx.x == 0 && blockIdx.x == 0) {
        out[0] = address(numbers) % 128 == 0 && address(counts) % 128 == 0 && address(bytes) % 128 == 0;
        out[1] = numbers[2] != numbers[2];  // nobody wrote it: NaN
        out[2] = bytes[99];
    }
    if (threadIdx.x == 0) counts[4] = 17;
    __syncthreads();
    if (blockIdx.x == 0) out[3 + threadIdx.x] = counts[4];
}

TEST(SharedMemory, IsAlignedFilledWithNanAndCommonToTheBlock) {
    std::vector<int> out(3 + 64);
    ASSERT_EQ(launch(shared_arrays, 2, 64, 100, nullptr, out.data()), cudaSuccess);
    EXPECT_EQ(out[0], 1);
    EXPECT_EQ(out[1], 1);
    EXPECT_EQ(out[2], 0xFF);
    for (size_t thread = 0; thread < 64; ++thread) EXPECT_EQ(out[3 + thread], 17);
}

template <size_t kBytes>
__global__ void much_static() {
    MOEK_SHARED(unsigned char, bytes, kBytes);
    bytes[threadIdx.x] = 0;
}

TEST(SharedMemory, LimitsAreThoseOfTheDevice) {
    const Environment capability("MOEK_EMULATION_CAPABILITY", "90");
    constexpr int kMost = 227 * 1024;
    const auto kernel = much_static<20 * 1024>;
    // Static and dynamic memory share the 48 KiB that need no permission.
    EXPECT_EQ(launch(kernel, 1, 1, 28 * 1024, nullptr), cudaSuccess);
    MOEK_EXPECT_FAILURE(launch(kernel, 1, 1, 28 * 1024 + 1, nullptr), cudaErrorInvalidValue,
                        "20480 bytes of shared memory");
    MOEK_EXPECT_FAILURE(launch(kernel, 1, 1, 48 * 1024 + 1, nullptr), cudaErrorInvalidValue,
                        "49153 bytes of dynamic shared memory, expected at most 49152");
    MOEK_EXPECT_FAILURE(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMost + 1),
                        cudaErrorInvalidValue, "expected 0..232448");
    ASSERT_EQ(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMost - 20 * 1024),
              cudaSuccess);
    EXPECT_EQ(launch(kernel, 1, 1, kMost - 20 * 1024, nullptr), cudaSuccess);
    EXPECT_EQ(launch(kernel, 1, 1, kMost - 20 * 1024 + 1, nullptr), cudaErrorInvalidValue);
    ASSERT_EQ(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMost), cudaSuccess);
    EXPECT_EQ(launch(kernel, 1, 1, 0, nullptr), cudaErrorInvalidValue);

    cudaFuncAttributes attributes;
    ASSERT_EQ(cudaFuncGetAttributes(&attributes, kernel), cudaSuccess);
    EXPECT_EQ(attributes.sharedSizeBytes, 20u * 1024);
    EXPECT_EQ(attributes.maxDynamicSharedSizeBytes, kMost);

    const Environment older("MOEK_EMULATION_CAPABILITY", "86");
    EXPECT_EQ(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 * 1024),
              cudaErrorInvalidValue);
}

TEST(Launch, RefusesShapesThatTheHardwareWould) {
    unsigned out = 0;
    const auto with = [&](dim3 grid, dim3 block) { return launch(indices, grid, block, 0, nullptr, &out); };
    MOEK_EXPECT_FAILURE(with(1, 1025), cudaErrorInvalidConfiguration, "a block of 1025 x 1 x 1 threads");
    EXPECT_EQ(with(1, dim3(32, 33)), cudaErrorInvalidConfiguration);
    EXPECT_EQ(with(1, dim3(1, 1, 65)), cudaErrorInvalidConfiguration);
    EXPECT_EQ(with(1, 0), cudaErrorInvalidConfiguration);
    EXPECT_EQ(with(dim3(1, 65536), 1), cudaErrorInvalidConfiguration);
    MOEK_EXPECT_FAILURE(with(0, 1), cudaErrorInvalidConfiguration, "a grid of 0 x 1 x 1 blocks");
    EXPECT_EQ(out, 0u);
    EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

template <class T>
__global__ void atomics(T* cells) {
    const T thread = static_cast<T>(threadIdx.x);
    atomicAdd(cells + 0, thread);
    atomicMax(cells + 1, thread);
    atomicMin(cells + 2, thread);
    atomicOr(cells + 3, static_cast<T>(1) << threadIdx.x % 31);
    atomicAnd(cells + 4, ~(static_cast<T>(1) << threadIdx.x % 31));
    atomicXor(cells + 5, thread);
    T expected = 0;
    while (true) {  // counts by compare-and-swap
        const T found = atomicCAS(cells + 6, expected, expected + 1);
        if (found == expected) break;
        expected = found;
    }
    if (atomicExch(cells + 7, thread + 1) == 0) atomicAdd_block(cells + 8, 1);
}

template <class T>
void check_atomics() {
    for (unsigned seed : {0u, 1u, 2u}) {
        const Schedule schedule(seed, 30);
        std::vector<T> cells = {0, 0, 1000, 0, static_cast<T>(-1), 0, 0, 0, 0};
        run(atomics<T>, 2, 64, cells.data());
        EXPECT_EQ(cells[0], static_cast<T>(2 * 63 * 32));
        EXPECT_EQ(cells[1], T{63});
        EXPECT_EQ(cells[2], T{0});
        EXPECT_EQ(cells[3], static_cast<T>(0x7FFFFFFF));
        EXPECT_EQ(cells[4], static_cast<T>(static_cast<T>(-1) << 31));
        EXPECT_EQ(cells[5], T{0});
        EXPECT_EQ(cells[6], T{128});
        EXPECT_EQ(cells[8], T{1});
    }
}

__global__ void counting(unsigned* cells, int* signed_cell) {
    atomicInc(cells, 4);
    atomicSub(cells + 1, 2u);
    atomicSub(signed_cell, 3);
}

TEST(Atomics, Work) {
    check_atomics<int>();
    check_atomics<unsigned>();
    check_atomics<unsigned long long>();
    unsigned cells[2] = {0, 1000};
    int signed_cell = 5;
    run(counting, 1, 7, cells, &signed_cell);
    EXPECT_EQ(cells[0], 2u);
    EXPECT_EQ(cells[1], 986u);
    EXPECT_EQ(signed_cell, -16);
}

// Each block waits until the one before it is done: they have to run interleaved.
__global__ void chain(unsigned* ticket, unsigned* done, int* values) {
    MOEK_SHARED(unsigned, number, 1);
    if (threadIdx.x == 0) {
        number[0] = atomicAdd(ticket, 1u);
        while (atomicAdd(done, 0u) != number[0]) __nanosleep(100);
        __threadfence();
        values[number[0] + 1] = values[number[0]] + 1;
        __threadfence();
        atomicExch(done, number[0] + 1);
    }
}

TEST(Atomics, ABlockMayWaitForAnother) {
    for (unsigned seed : {0u, 1u, 2u}) {
        const Schedule schedule(seed, 10, 4);
        unsigned ticket = 0, done = 0;
        std::vector<int> values(9);
        run(chain, 8, 32, &ticket, &done, values.data());
        for (int i = 0; i < 9; ++i) EXPECT_EQ(values[static_cast<size_t>(i)], i);
    }
}

// The block that comes last adds up what all have left.
__global__ void last_block(const int* values, int* partial, unsigned* arrived, int* out) {
    partial[blockIdx.x] = values[blockIdx.x];
    __threadfence();
    if (atomicAdd(arrived, 1u) != gridDim.x - 1) return;
    __threadfence();
    int sum = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += partial[i];
    *out = sum;
}

TEST(Atomics, TheLastBlockSeesWhatTheOthersWrote) {
    for (unsigned seed : {0u, 1u, 2u}) {
        const Schedule schedule(seed, 10, 4);
        std::vector<int> values(10), partial(10);
        std::iota(values.begin(), values.end(), 1);
        unsigned arrived = 0;
        int out = 0;
        run(last_block, 10, 1, values.data(), partial.data(), &arrived, &out);
        EXPECT_EQ(out, 55);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Failures
// ---------------------------------------------------------------------------------------------------------------------

enum class Mistake {
    kNone,
    kLaneMissing,
    kLaneWaitsElsewhere,
    kOtherOperation,
    kOutsideOwnMask,
    kMissingLanesNamed,
    kReadsOutsideMask,
    kBadWidth,
    kDivergentBarrier,
    kOtherBarrier,
    kTrap,
    kSpinsForever,
};

__global__ void mistaken(Mistake mistake, int* out) {
    const unsigned lane = threadIdx.x % 32;
    switch (mistake) {
        case Mistake::kLaneMissing:
            if (threadIdx.x == 39) return;
            __syncwarp();
            break;
        case Mistake::kLaneWaitsElsewhere:
            if (threadIdx.x == 39) {
                __syncthreads();
            } else {
                __ballot_sync(0xFFFFFFFFu, 1);
            }
            break;
        case Mistake::kOtherOperation:
            out[lane] = lane == 3 ? __any_sync(0xFFFFFFFFu, 1) : __all_sync(0xFFFFFFFFu, 1);
            break;
        case Mistake::kOutsideOwnMask:
            __syncwarp(0xFFFFFFFEu);
            break;
        case Mistake::kMissingLanesNamed:
            __syncwarp(0xFFFFFFFFu);  // in a warp of 8 lanes
            break;
        case Mistake::kReadsOutsideMask:
            if (lane < 4) out[lane] = __shfl_sync(0xFu, 1, 4);
            break;
        case Mistake::kBadWidth:
            out[lane] = __shfl_sync(0xFFFFFFFFu, 1, 0, 12);
            break;
        case Mistake::kDivergentBarrier:
            if (lane == 0) {
                __syncthreads();
            } else {
                __syncthreads();
            }
            break;
        case Mistake::kOtherBarrier:
            out[lane] = lane == 0 ? __syncthreads_or(1) : __syncthreads_and(1);
            break;
        case Mistake::kTrap:
            if (threadIdx.x == 5) __trap();
            break;
        case Mistake::kSpinsForever:
            while (out[0] != 1) __nanosleep(10);
            break;
        default:
            break;
    }
}

cudaError_t make(Mistake mistake, unsigned threads = 64) {
    int out[32] = {};
    return launch(mistaken, 1, threads, 0, nullptr, mistake, out);
}

TEST(Failures, AreReportedWithPlaceAndReason) {
    const auto failure = cudaErrorLaunchFailure;
    MOEK_EXPECT_FAILURE(
        make(Mistake::kLaneMissing), failure,
        "deadlock: block (0,0,0) thread (32,0,0) waits in __syncwarp with mask 0xffffffff (block_functions");
    MOEK_EXPECT_FAILURE(make(Mistake::kLaneMissing), failure, "for lanes 7; thread (39,0,0) has finished");
    MOEK_EXPECT_FAILURE(make(Mistake::kLaneWaitsElsewhere), failure,
                        "for lanes 7; thread (39,0,0) waits in __syncthreads (block_functions");
    MOEK_EXPECT_FAILURE(make(Mistake::kOtherOperation), failure,
                        "block (0,0,0) thread (3,0,0): the warp diverges: other lanes wait in __all_sync, this one "
                        "comes to __any_sync");
    MOEK_EXPECT_FAILURE(make(Mistake::kOutsideOwnMask), failure,
                        "thread (0,0,0): __syncwarp with a mask that leaves out");
    MOEK_EXPECT_FAILURE(make(Mistake::kMissingLanesNamed, 40), failure, "lanes this warp does not have");
    MOEK_EXPECT_FAILURE(make(Mistake::kReadsOutsideMask), failure, "a shuffle reads a lane outside its mask");
    MOEK_EXPECT_FAILURE(make(Mistake::kBadWidth), failure, "a shuffle's width is no power of two");
    MOEK_EXPECT_FAILURE(make(Mistake::kDivergentBarrier), failure,
                        "thread (1,0,0): the block diverges: other threads wait in __syncthreads (block_functions");
    MOEK_EXPECT_FAILURE(make(Mistake::kOtherBarrier), failure, "other threads wait in __syncthreads_or");
    MOEK_EXPECT_FAILURE(make(Mistake::kTrap), failure, "thread (5,0,0): __trap (block_functions");
    // The next launch is none the worse for it.
    EXPECT_EQ(make(Mistake::kNone), cudaSuccess);
}

TEST(Failures, EndlessSpinningIsNoticed) {
    MOEK_EXPECT_FAILURE(make(Mistake::kSpinsForever, 1), cudaErrorLaunchTimeout, "memory that nobody changes");
}

TEST(Failures, EveryScheduleFindsAMissingLane) {
    for (unsigned seed : {0u, 1u, 2u, 3u, 4u}) {
        const Schedule schedule(seed, 20);
        MOEK_EXPECT_FAILURE(make(Mistake::kLaneMissing), cudaErrorLaunchFailure, "deadlock");
    }
}

__global__ void asserting(int value) {
    if (threadIdx.x == 2) assert(value > 0);
}

TEST(Failures, AnAssertionEndsTheKernel) {
    MOEK_EXPECT_FAILURE(launch(asserting, 1, 32, 0, nullptr, -1), cudaErrorAssert,
                        "thread (2,0,0): assertion 'value > 0' failed in ");
}

}  // namespace
}  // namespace moek::emulation::test
