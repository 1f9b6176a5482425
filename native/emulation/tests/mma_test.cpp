// The tensor core's products against plain loops over whole matrices, and the model of how they are summed.
#include "cuda/common/mma.hpp"

#include <bit>
#include <cmath>
#include <random>

#include "cuda/common/element.hpp"
#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

constexpr int kM = 16;
constexpr int kN = 8;

// Loads fragments as the header of mma.hpp lays them out. A is [16, k], B [k, 8], C and D [16, 8], row by row.
template <class T>
__global__ void multiply_16(const T* a, const T* b, const float* c, float* d) {
    const int g = static_cast<int>(threadIdx.x) / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
    const auto pair = [](T low, T high) { return static_cast<uint32_t>(high.bits) << 16 | low.bits; };
    const auto row_pair = [&](int row, int column) { return pair(a[row * 16 + column], a[row * 16 + column + 1]); };
    const auto column_pair = [&](int row) { return pair(b[row * kN + g], b[(row + 1) * kN + g]); };
    const uint32_t rows[4] = {row_pair(g, 2 * t), row_pair(g + 8, 2 * t), row_pair(g, 2 * t + 8),
                              row_pair(g + 8, 2 * t + 8)};
    const uint32_t columns[2] = {column_pair(2 * t), column_pair(2 * t + 8)};
    float sums[4] = {c[g * kN + 2 * t], c[g * kN + 2 * t + 1], c[(g + 8) * kN + 2 * t], c[(g + 8) * kN + 2 * t + 1]};
    cuda::mma_m16n8k16<T>(sums, rows, columns);
    d[g * kN + 2 * t] = sums[0];
    d[g * kN + 2 * t + 1] = sums[1];
    d[(g + 8) * kN + 2 * t] = sums[2];
    d[(g + 8) * kN + 2 * t + 1] = sums[3];
}

__global__ void multiply_tf32(const uint32_t* a, const uint32_t* b, const float* c, float* d) {
    const int g = static_cast<int>(threadIdx.x) / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
    const uint32_t rows[4] = {a[g * 8 + t], a[(g + 8) * 8 + t], a[g * 8 + t + 4], a[(g + 8) * 8 + t + 4]};
    const uint32_t columns[2] = {b[t * kN + g], b[(t + 4) * kN + g]};
    float sums[4] = {c[g * kN + 2 * t], c[g * kN + 2 * t + 1], c[(g + 8) * kN + 2 * t], c[(g + 8) * kN + 2 * t + 1]};
    cuda::mma_m16n8k8_tf32(sums, rows, columns);
    d[g * kN + 2 * t] = sums[0];
    d[g * kN + 2 * t + 1] = sums[1];
    d[(g + 8) * kN + 2 * t] = sums[2];
    d[(g + 8) * kN + 2 * t + 1] = sums[3];
}

// Every element against a plain sum. Each of the additions of blocks loses less than two units of the 24th bit of the
// largest term.
template <class Value>
void check_product(const std::vector<float>& d, const std::vector<float>& c, int depth, int blocks, Value value) {
    for (int row = 0; row < kM; ++row) {
        for (int column = 0; column < kN; ++column) {
            double sum = c[static_cast<size_t>(row * kN + column)];
            double magnitude = std::fabs(sum);
            for (int i = 0; i < depth; ++i) {
                const double product = value(row, column, i);
                sum += product;
                magnitude += std::fabs(product);
            }
            EXPECT_NEAR(d[static_cast<size_t>(row * kN + column)], sum, magnitude * blocks * 0x1p-22)
                << row << " " << column;
        }
    }
}

template <class T>
void check_16() {
    std::mt19937 engine(3);
    std::normal_distribution<float> normal;
    std::vector<T> a(kM * 16), b(16 * kN);
    std::vector<float> c(kM * kN), d(kM * kN, NAN);
    for (T& element : a) element = cuda::from_float<T>(normal(engine));
    for (T& element : b) element = cuda::from_float<T>(normal(engine));
    for (float& element : c) element = normal(engine);
    for (unsigned seed : {0u, 1u}) {
        const Schedule schedule(seed);
        run(multiply_16<T>, 1, 32, a.data(), b.data(), c.data(), d.data());
        check_product(d, c, 16, 2, [&](int row, int column, int i) {
            return static_cast<double>(cuda::to_float(a[static_cast<size_t>(row * 16 + i)])) *
                   static_cast<double>(cuda::to_float(b[static_cast<size_t>(i * kN + column)]));
        });
    }
}

TEST(Mma, Bf16) {
    check_16<cuda::bfloat16>();
}
TEST(Mma, F16) {
    check_16<cuda::float16>();
}

TEST(Mma, Tf32IgnoresTheLowBits) {
    std::mt19937 engine(4);
    std::normal_distribution<float> normal;
    std::vector<uint32_t> a(kM * 8), b(8 * kN);
    std::vector<float> c(kM * kN), d(kM * kN, NAN);
    // Not rounded: the low 13 bits are set at random.
    for (uint32_t& element : a) element = std::bit_cast<uint32_t>(normal(engine));
    for (uint32_t& element : b) element = std::bit_cast<uint32_t>(normal(engine));
    for (float& element : c) element = normal(engine);
    run(multiply_tf32, 1, 32, a.data(), b.data(), c.data(), d.data());
    check_product(d, c, 8, 2, [&](int row, int column, int i) {
        return static_cast<double>(std::bit_cast<float>(a[static_cast<size_t>(row * 8 + i)] & ~0x1FFFu)) *
               static_cast<double>(std::bit_cast<float>(b[static_cast<size_t>(i * kN + column)] & ~0x1FFFu));
    });
}

// One product of row 0 and column 0 with the accumulator `c`.
template <class T>
float single(std::vector<float> row, std::vector<float> column, float c) {
    std::vector<T> a(kM * 16), b(16 * kN);
    std::vector<float> accumulator(kM * kN), d(kM * kN);
    for (size_t i = 0; i < row.size(); ++i) a[i] = cuda::from_float<T>(row[i]);
    for (size_t i = 0; i < column.size(); ++i) b[i * kN] = cuda::from_float<T>(column[i]);
    accumulator[0] = c;
    run(multiply_16<T>, 1, 32, a.data(), b.data(), accumulator.data(), d.data());
    return d[0];
}

TEST(Mma, SumsAreCutOffAndNotRounded) {
    using cuda::bfloat16;
    // The 25th bit below the largest term takes part, the 26th does not.
    EXPECT_EQ(single<bfloat16>({1, 1}, {0x1p-24f, 0x1p-24f}, 1), 1 + 0x1p-23f);
    EXPECT_EQ(single<bfloat16>({1, 1, 1, 1}, {0x1p-25f, 0x1p-25f, 0x1p-25f, 0x1p-25f}, 1), 1.0f);
    // 1 + 1.5 units in the last place is cut to 1 + 1, also below zero.
    EXPECT_EQ(single<bfloat16>({1.5f}, {0x1p-23f}, 1), 1 + 0x1p-23f);
    EXPECT_EQ(single<bfloat16>({-1.5f}, {0x1p-23f}, -1), -1 - 0x1p-23f);
    // Large terms that cancel leave what was not cut off.
    EXPECT_EQ(single<bfloat16>({0x1p10f, 1}, {0x1p10f, 1}, -0x1p20f), 1.0f);
}

TEST(Mma, SpecialValues) {
    using cuda::bfloat16;
    EXPECT_EQ(single<bfloat16>({INFINITY}, {1}, 1), INFINITY);
    EXPECT_TRUE(std::isnan(single<bfloat16>({INFINITY}, {0}, 1)));
    EXPECT_TRUE(std::isnan(single<bfloat16>({INFINITY, INFINITY}, {1, -1}, 1)));
    EXPECT_TRUE(std::isnan(single<bfloat16>({1}, {1}, NAN)));
    EXPECT_EQ(single<bfloat16>({0x1p127f}, {0x1p127f}, 0), INFINITY);
    EXPECT_EQ(single<bfloat16>({0}, {0}, 0), 0.0f);
    // Subnormal operands and results count.
    EXPECT_EQ(single<bfloat16>({0x1p-130f}, {0x1p10f}, 0), 0x1p-120f);
    EXPECT_EQ(single<bfloat16>({0x1p-100f}, {0x1p-40f}, 0), 0x1p-140f);
    EXPECT_EQ(single<bfloat16>({0x1p-100f}, {0x1p-60f}, 0), 0.0f);
    EXPECT_EQ(single<cuda::float16>({0x1p-24f}, {0x1p-24f}, 0), 0x1p-48f);
}

}  // namespace
}  // namespace moek::emulation::test
