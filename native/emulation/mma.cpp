#include "emulation/mma.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "emulation/conversion.hpp"
#include "emulation/execution/rendezvous.hpp"
#include "emulation/execution/thread.hpp"

namespace moek::emulation {
namespace {

constexpr int kMostProducts = 8;

float to_float(MmaKind kind, uint32_t packed, unsigned which) {
    switch (kind) {
        case MmaKind::kM16N8K16Bf16:
            return std::bit_cast<float>(which == 0 ? packed << 16 : packed & 0xFFFF0000u);
        case MmaKind::kM16N8K16F16:
            return float_from_f16(static_cast<uint16_t>(packed >> (16 * which)));
        default:
            return std::bit_cast<float>(packed & ~0x1FFFu);
    }
}

int exponent_of(double positive) {
    return static_cast<int>(std::bit_cast<uint64_t>(positive) >> 52) - 1023;
}

double power_of_two(int exponent) {
    return std::bit_cast<double>(static_cast<uint64_t>(exponent + 1023) << 52);
}

// The sum as the header describes it. Every product is exact in double.
float add_products(float accumulator, const double* products, int count) {
    double largest = std::fabs(static_cast<double>(accumulator));
    double plain = accumulator;
    for (int i = 0; i < count; ++i) {
        largest = std::max(largest, std::fabs(products[i]));
        plain += products[i];
    }
    if (plain != plain) return std::bit_cast<float>(0x7FFFFFFFu);
    if (largest == 0 || std::isinf(plain)) return static_cast<float>(plain);

    // In multiples of the 25th bit of the largest: whole numbers, whose sum is exact.
    const int lowest = exponent_of(largest) - 24;
    const double scale = power_of_two(-lowest);
    int64_t sum = static_cast<int64_t>(accumulator * scale);
    for (int i = 0; i < count; ++i) sum += static_cast<int64_t>(products[i] * scale);

    // 24 bits of it, and none below the smallest float.
    const uint64_t magnitude = static_cast<uint64_t>(std::abs(sum));
    const int excess = std::max({static_cast<int>(std::bit_width(magnitude)) - 24, -149 - lowest, 0});
    const uint64_t kept = excess > 63 ? 0 : magnitude >> excess << excess;
    return static_cast<float>(
        std::copysign(static_cast<double>(kept) * power_of_two(lowest), static_cast<double>(sum)));
}

}  // namespace

void mma(MmaKind kind, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], std::source_location where) {
    const bool packed = kind != MmaKind::kM16N8K8Tf32;
    const unsigned elements = packed ? 2 : 1;  // of a register
    const int block = packed ? 8 : 4;          // products that are added at once

    const uint32_t registers[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const Slot* slots = exchange(0xFFFFFFFFu, WarpOperation::kMultiply, registers, sizeof(registers), where);
    const auto register_of = [&](unsigned lane, unsigned index) {
        uint32_t value;
        __builtin_memcpy(&value, slots[lane].bytes + 4 * index, sizeof(value));
        return value;
    };

    // Rows g and g + 8 of A and columns 2t and 2t + 1 of B, in halves of the depth.
    const unsigned g = this_thread().lane / 4;
    const unsigned t = this_thread().lane % 4;
    for (unsigned half = 0; half < 2; ++half) {
        float rows[2][kMostProducts];
        float columns[2][kMostProducts];
        for (unsigned quarter = 0; quarter < 4; ++quarter) {
            for (unsigned i = 0; i < elements; ++i) {
                const unsigned depth = elements * quarter + i;
                for (unsigned which = 0; which < 2; ++which) {
                    rows[which][depth] = to_float(kind, register_of(4 * g + quarter, 2 * half + which), i);
                    columns[which][depth] = to_float(kind, register_of(4 * (2 * t + which) + quarter, 4 + half), i);
                }
            }
        }
        for (unsigned row = 0; row < 2; ++row) {
            for (unsigned column = 0; column < 2; ++column) {
                double products[kMostProducts];
                for (int i = 0; i < block; ++i) {
                    products[i] = static_cast<double>(rows[row][i]) * static_cast<double>(columns[column][i]);
                }
                float& sum = d[2 * row + column];
                sum = add_products(sum, products, block);
            }
        }
    }
}

}  // namespace moek::emulation
