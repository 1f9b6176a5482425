// cp.async: what it copies, when, and what it refuses.
#include <cstdint>
#include <cstring>

#include "cuda/common/cp_async.hpp"
#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

template <int kBytes>
__global__ void copy(const unsigned char* source, unsigned char* out, int valid) {
    MOEK_SHARED(unsigned char, buffer, 32 * 16);
    unsigned char* mine = buffer + threadIdx.x * kBytes;
    cuda::cp_async<kBytes>(mine, source + threadIdx.x * kBytes, valid);
    cuda::cp_async_commit();
    cuda::cp_async_wait<0>();
    for (int i = 0; i < kBytes; ++i) out[threadIdx.x * kBytes + i] = mine[i];
}

template <int kBytes>
void check_copy() {
    alignas(16) unsigned char source[32 * 16];
    for (size_t i = 0; i < sizeof(source); ++i) source[i] = static_cast<unsigned char>(i % 251 + 1);
    for (unsigned seed : {0u, 1u, 2u}) {
        const Schedule schedule(seed);
        for (int valid = 0; valid <= kBytes; ++valid) {
            unsigned char out[32 * 16];
            run(copy<kBytes>, 1, 32, source, out, valid);
            for (int i = 0; i < 32 * kBytes; ++i) {
                ASSERT_EQ(out[i], i % kBytes < valid ? source[i] : 0) << kBytes << " " << valid << " " << i;
            }
        }
    }
}

TEST(AsyncCopy, CopiesTheValidBytesAndFillsWithZeros) {
    check_copy<4>();
    check_copy<8>();
    check_copy<16>();
}

// Reads through `valid_bytes`, not beyond: the source is a heap block of exactly that size, which AddressSanitizer watches.
TEST(AsyncCopy, ReadsNothingBeyondTheValidBytes) {
    for (int valid : {0, 1, 5}) {
        void* source = nullptr;
        ASSERT_EQ(posix_memalign(&source, 16, static_cast<size_t>(32 * 16 - 16 + valid)), 0);
        std::memset(source, 1, static_cast<size_t>(32 * 16 - 16 + valid));
        unsigned char out[32 * 16];
        run(copy<16>, 1, 32, static_cast<const unsigned char*>(source), out, valid);
        std::free(source);
    }
}

// Three groups in flight; `kPending` of them may be.
template <int kPending>
__global__ void groups(const int* source, int* out) {
    MOEK_SHARED(int, buffer, 4);
    for (int i = 0; i < 4; ++i) buffer[i] = -1;
    for (int i = 0; i < 3; ++i) {
        cuda::cp_async<4>(buffer + i, source + i, 4);
        cuda::cp_async_commit();
    }
    cuda::cp_async<4>(buffer + 3, source + 3, 4);  // in no group
    cuda::cp_async_wait<kPending>();
    for (int i = 0; i < 4; ++i) out[i] = buffer[i];
    cuda::cp_async_commit();
    cuda::cp_async_wait<0>();
    for (int i = 0; i < 4; ++i) out[4 + i] = buffer[i];
}

template <int kPending>
void check_groups() {
    const int source[4] = {10, 11, 12, 13};
    int out[8];
    run(groups<kPending>, 1, 1, source, out);
    for (int i = 0; i < 4; ++i) {
        EXPECT_EQ(out[i], i < 3 - kPending ? source[i] : -1) << i << ", pending " << kPending;
        EXPECT_EQ(out[4 + i], source[i]);
    }
}

TEST(AsyncCopy, WaitsForAllButTheNewestGroups) {
    check_groups<0>();
    check_groups<1>();
    check_groups<2>();
    check_groups<3>();
}

// With a random schedule a copy may come early, so that both values are seen without the wait.
TEST(AsyncCopy, MayHappenAtOnce) {
    const int source[4] = {10, 11, 12, 13};
    bool early = false, late = false;
    for (unsigned seed = 1; seed < 20; ++seed) {
        const Schedule schedule(seed);
        int out[8];
        run(groups<3>, 1, 1, source, out);
        early = early || out[0] == 10;
        late = late || out[0] == -1;
    }
    EXPECT_TRUE(early);
    EXPECT_TRUE(late);
}

// A ring of four groups for 1000 rounds: more copies than fit in the queue at once.
__global__ void long_pipeline(const int* source, int count, int* out) {
    MOEK_SHARED(int, ring, 4);
    int64_t sum = 0;
    for (int i = 0; i < count + 3; ++i) {
        if (i < count) cuda::cp_async<4>(ring + i % 4, source + i, 4);
        cuda::cp_async_commit();
        if (i < 3) continue;
        cuda::cp_async_wait<3>();
        sum += ring[(i - 3) % 4];
    }
    *out = static_cast<int>(sum);
}

TEST(AsyncCopy, GoesOnForever) {
    std::vector<int> source(1000);
    int expected = 0;
    for (int i = 0; i < 1000; ++i) expected += source[static_cast<size_t>(i)] = i;
    int out = 0;
    run(long_pipeline, 1, 1, source.data(), 1000, &out);
    EXPECT_EQ(out, expected);
}

__global__ void refused(unsigned char* global, int target_shift, int source_shift, int valid, bool to_global) {
    MOEK_SHARED(unsigned char, buffer, 64);
    cuda::cp_async<16>(to_global ? global : buffer + target_shift, global + source_shift, valid);
    cuda::cp_async_commit();
    cuda::cp_async_wait<0>();
}

__global__ void abandoned(const int* source) {
    MOEK_SHARED(int, buffer, 1);
    cuda::cp_async<4>(buffer, source, 4);
    cuda::cp_async_commit();
}

TEST(AsyncCopy, Refuses) {
    alignas(16) unsigned char global[64] = {};
    EXPECT_EQ(launch(refused, 1, 1, 0, nullptr, global, 0, 0, 16, false), cudaSuccess);
    MOEK_EXPECT_FAILURE(launch(refused, 1, 1, 0, nullptr, global, 8, 0, 16, false), cudaErrorMisalignedAddress,
                        "cp.async: the shared address");
    MOEK_EXPECT_FAILURE(launch(refused, 1, 1, 0, nullptr, global, 0, 4, 16, false), cudaErrorMisalignedAddress,
                        "cp.async: the global address");
    EXPECT_EQ(launch(refused, 1, 1, 0, nullptr, global, 64, 0, 16, false), cudaErrorIllegalAddress);
    EXPECT_EQ(launch(refused, 1, 1, 0, nullptr, global, 0, 0, 16, true), cudaErrorIllegalAddress);
    MOEK_EXPECT_FAILURE(launch(refused, 1, 1, 0, nullptr, global, 0, 0, 17, false), cudaErrorLaunchFailure,
                        "valid_bytes is 17, expected 0..16");
    EXPECT_EQ(launch(refused, 1, 1, 0, nullptr, global, 0, 0, -1, false), cudaErrorLaunchFailure);
    const int source = 1;
    MOEK_EXPECT_FAILURE(launch(abandoned, 1, 1, 0, nullptr, &source), cudaErrorLaunchFailure,
                        "ends with 1 cp.async copies");
}

}  // namespace
}  // namespace moek::emulation::test
