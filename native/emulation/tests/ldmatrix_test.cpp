// ldmatrix in its four forms, and what it refuses.
#include "cuda/common/ldmatrix.hpp"

#include <cstdint>

#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

constexpr int kPitch = 24;  // elements between rows

// The element in column c of row r of the matrix i.
__host__ __device__ constexpr uint16_t element(int i, int r, int c) {
    return static_cast<uint16_t>(1000 * i + 10 * r + c);
}

template <int kMatrices, bool kTranspose>
__global__ void load(uint32_t* out) {
    MOEK_SHARED(uint16_t, rows, 32 * kPitch);
    const int lane = static_cast<int>(threadIdx.x);
    for (int c = 0; c < 8; ++c) rows[lane * kPitch + c] = element(lane / 8, lane % 8, c);
    __syncwarp();
    uint32_t r[kMatrices];
    if constexpr (kMatrices == 4) {
        if constexpr (kTranspose) cuda::ldmatrix_x4_trans(r, rows + lane * kPitch);
        if constexpr (!kTranspose) cuda::ldmatrix_x4(r, rows + lane * kPitch);
    } else {
        if constexpr (kTranspose) cuda::ldmatrix_x2_trans(r, rows + lane * kPitch);
        if constexpr (!kTranspose) cuda::ldmatrix_x2(r, rows + lane * kPitch);
    }
    for (int i = 0; i < kMatrices; ++i) out[i * 32 + lane] = r[i];
}

template <int kMatrices, bool kTranspose>
void check_load() {
    for (unsigned seed : {0u, 1u}) {
        const Schedule schedule(seed, 10 * seed);
        std::vector<uint32_t> out(kMatrices * 32);
        run(load<kMatrices, kTranspose>, 1, 32, out.data());
        for (int i = 0; i < kMatrices; ++i) {
            for (int lane = 0; lane < 32; ++lane) {
                const int slow = lane / 4;
                const int fast = 2 * (lane % 4);
                const uint32_t low = kTranspose ? element(i, fast, slow) : element(i, slow, fast);
                const uint32_t high = kTranspose ? element(i, fast + 1, slow) : element(i, slow, fast + 1);
                ASSERT_EQ(out[static_cast<size_t>(i * 32 + lane)], high << 16 | low) << i << " " << lane;
            }
        }
    }
}

TEST(Ldmatrix, FourForms) {
    check_load<4, false>();
    check_load<4, true>();
    check_load<2, false>();
    check_load<2, true>();
}

__global__ void load_from(const uint16_t* elsewhere, int shift, int pitch, uint32_t* out) {
    MOEK_SHARED(uint16_t, rows, 32 * 64);
    const uint16_t* row = elsewhere == nullptr ? rows + static_cast<int>(threadIdx.x) * pitch + shift : elsewhere;
    uint32_t r[4];
    cuda::ldmatrix_x4(r, row);
    out[threadIdx.x] = r[0];
}

TEST(Ldmatrix, RefusesAddressesThatTheHardwareWould) {
    std::vector<uint32_t> out(32);
    alignas(16) const uint16_t global[8] = {};
    MOEK_EXPECT_FAILURE(launch(load_from, 1, 32, 0, nullptr, nullptr, 1, 8, out.data()), cudaErrorMisalignedAddress,
                        "not aligned to 16 bytes");
    EXPECT_EQ(launch(load_from, 1, 32, 0, nullptr, global, 0, 8, out.data()), cudaErrorIllegalAddress);
    EXPECT_EQ(launch(load_from, 1, 32, 0, nullptr, nullptr, 32 * 64, 8, out.data()), cudaErrorIllegalAddress);
    EXPECT_EQ(launch(load_from, 1, 32, 0, nullptr, nullptr, 0, 8, out.data()), cudaSuccess);
}

TEST(Ldmatrix, CountsBankConflicts) {
    std::vector<uint32_t> out(32);
    for (const auto& [pitch, conflicts] : {std::pair(8, 0), std::pair(64, 7), std::pair(32, 3), std::pair(40, 0)}) {
        statistics() = {};
        run(load_from, 1, 32, nullptr, 0, pitch, out.data());
        EXPECT_EQ(statistics().matrices, 4u);
        EXPECT_EQ(statistics().bank_conflicts, static_cast<uint64_t>(4 * conflicts)) << pitch;
    }
}

}  // namespace
}  // namespace moek::emulation::test
