// mma: whole numbers, whose sums are exact and tell where every element lies, and random ones, whose sums round as the device
// pleases.
#include <cmath>

#include "cuda/common/mma.hpp"
#include "tests/conformance/cases.hpp"
#include "tests/conformance/device.hpp"

namespace moek::conformance {
namespace {

constexpr int kProducts = 8;

enum class Kind { kBf16, kF16, kTf32 };

// Registers as they come: lane l of product p reads a[(p 32 + l) 4 ...], b[... 2], c[... 4].
template <Kind kKind>
__global__ void multiply(const uint32_t* a, const uint32_t* b, const float* c, float* d) {
    const int place = static_cast<int>(blockIdx.x * 32 + threadIdx.x);
    const uint32_t rows[4] = {a[4 * place], a[4 * place + 1], a[4 * place + 2], a[4 * place + 3]};
    const uint32_t columns[2] = {b[2 * place], b[2 * place + 1]};
    float sums[4] = {c[4 * place], c[4 * place + 1], c[4 * place + 2], c[4 * place + 3]};
    if constexpr (kKind == Kind::kBf16) cuda::mma_m16n8k16<cuda::bfloat16>(sums, rows, columns);
    if constexpr (kKind == Kind::kF16) cuda::mma_m16n8k16<cuda::float16>(sums, rows, columns);
    if constexpr (kKind == Kind::kTf32) cuda::mma_m16n8k8_tf32(sums, rows, columns);
#pragma unroll
    for (int i = 0; i < 4; ++i) d[4 * place + i] = sums[i];
}

// `value` in the operand's type: exact for all values used here.
uint32_t element_bits(Kind kind, float value) {
    if (kind == Kind::kTf32) return bits_of(value);
    if (kind == Kind::kBf16) return bits_of(value) >> 16;
    if (value == 0) return 0;
    const int exponent = std::ilogb(value);
    const uint32_t fraction = static_cast<uint32_t>(std::ldexp(std::fabs(value), 10 - exponent)) - 1024;
    return (value < 0 ? 0x8000u : 0u) | static_cast<uint32_t>(exponent + 15) << 10 | fraction;
}

// Operands and the magnitude of each output's terms. `make` returns a value with at most 8 significant bits.
struct Operands {
    std::vector<uint32_t> a, b;
    std::vector<float> c;
    std::vector<double> magnitude;
};

template <class Make>
Operands make_operands(Kind kind, Make make) {
    const int depth = kind == Kind::kTf32 ? 8 : 16;
    const int per_register = kind == Kind::kTf32 ? 1 : 2;
    Operands operands;
    for (int product = 0; product < kProducts; ++product) {
        std::vector<float> a(static_cast<size_t>(16 * depth)), b(static_cast<size_t>(8 * depth)), c(16 * 8);
        for (float& value : a) value = make();
        for (float& value : b) value = make();
        for (float& value : c) value = make();
        const auto at_a = [&](int row, int k) { return a[static_cast<size_t>(row * depth + k)]; };
        const auto at_b = [&](int k, int column) { return b[static_cast<size_t>(column * depth + k)]; };
        for (int lane = 0; lane < 32; ++lane) {
            const int g = lane / 4;
            const int t = lane % 4;
            const auto pack = [&](auto at) {
                uint32_t packed = 0;
                for (int i = 0; i < per_register; ++i)
                    packed |= element_bits(kind, at(per_register * t + i)) << (16 * i);
                return packed;
            };
            for (int i = 0; i < 4; ++i) {
                operands.a.push_back(pack([&](int k) { return at_a(g + 8 * (i % 2), k + depth / 2 * (i / 2)); }));
            }
            for (int i = 0; i < 2; ++i) operands.b.push_back(pack([&](int k) { return at_b(k + depth / 2 * i, g); }));
            for (int i = 0; i < 4; ++i) {
                const int row = g + 8 * (i / 2);
                const int column = 2 * t + i % 2;
                const float start = c[static_cast<size_t>(row * 8 + column)];
                double magnitude = std::fabs(static_cast<double>(start));
                for (int k = 0; k < depth; ++k) {
                    magnitude += std::fabs(static_cast<double>(at_a(row, k)) * static_cast<double>(at_b(k, column)));
                }
                operands.c.push_back(start);
                operands.magnitude.push_back(magnitude);
            }
        }
    }
    return operands;
}

template <Kind kKind>
std::vector<float> run(const Operands& operands) {
    const DeviceArray<uint32_t> a(operands.a);
    const DeviceArray<uint32_t> b(operands.b);
    const DeviceArray<float> c(operands.c);
    const DeviceArray<float> d(operands.c.size());
    cuda::launch(multiply<kKind>, kProducts, 32, 0, nullptr, a.data(), b.data(), c.data(), d.data());
    return d.values();
}

template <Kind kKind>
void record_product(Record& record, const std::string& name) {
    Words words(41);
    const std::vector<float> exact =
        run<kKind>(make_operands(kKind, [&] { return static_cast<float>(static_cast<int>(words.next() % 31) - 15); }));
    std::vector<uint32_t> bits;
    for (float value : exact) bits.push_back(bits_of(value));
    record.bits(name + ".whole", std::move(bits));

    // Signs at random, magnitudes over 12 octaves. Each of two additions may lose up to two units of the 24th bit of the sum
    // of magnitudes.
    const Operands random = make_operands(kKind, [&] {
        const int significand = 128 + static_cast<int>(words.next() % 128);
        const int exponent = static_cast<int>(words.next() % 12) - 13;
        return std::ldexp(static_cast<float>(words.next() % 2 == 0 ? significand : -significand), exponent);
    });
    std::vector<double> tolerance;
    for (double magnitude : random.magnitude) tolerance.push_back(magnitude * 0x1p-21);
    record.near(name + ".random", run<kKind>(random), std::move(tolerance));
}

}  // namespace

void record_products(Record& record) {
    record_product<Kind::kBf16>(record, "mma.m16n8k16.bf16");
    record_product<Kind::kF16>(record, "mma.m16n8k16.f16");
    record_product<Kind::kTf32>(record, "mma.m16n8k8.tf32");

    // The low 13 bits of a tf32 operand are ignored.
    Words words(42);
    Operands dirty =
        make_operands(Kind::kTf32, [&] { return static_cast<float>(static_cast<int>(words.next() % 31) - 15); });
    for (uint32_t& word : dirty.a) word |= words.next() & 0x1FFFu;
    for (uint32_t& word : dirty.b) word |= words.next() & 0x1FFFu;
    std::vector<uint32_t> bits;
    for (float value : run<Kind::kTf32>(dirty)) bits.push_back(bits_of(value));
    record.bits("mma.m16n8k8.tf32.low_bits", std::move(bits));
}

}  // namespace moek::conformance
