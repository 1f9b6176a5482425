// Philox4x32-10, the counter-based generator behind dropout (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011), and the mask that moek_dropout_args states.
//
// Everything here has internal linkage, because files compiled for different instruction sets include it.
#pragma once

#include <cstdint>

namespace moek::cpu {

struct PhiloxBlock {
    uint32_t word[4];
};

static inline PhiloxBlock philox4x32_10(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t product0 = uint64_t{0xD2511F53} * counter.word[0];
        const uint64_t product1 = uint64_t{0xCD9E8D57} * counter.word[2];
        counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(product1),
                    static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(product0)}};
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    return counter;
}

// One mask: probability, seed, offset and stream as in moek_dropout_args.
struct Dropout {
    double p;
    uint64_t seed;
    uint64_t offset;
    int32_t stream;

    bool active() const { return p > 0; }
};

// Writes the factors (0 or 1 / (1 - p)) of the elements first .. first + count - 1, where element i of a matrix with d
// columns is t * d + c.
template <class Real>
static inline void dropout_factors(const Dropout& dropout, uint64_t first, int64_t count, Real* factors) {
    const uint32_t key0 = static_cast<uint32_t>(dropout.seed);
    const uint32_t key1 =
        static_cast<uint32_t>(dropout.seed >> 32) ^ (0x9E3779B9u * static_cast<uint32_t>(dropout.stream));
    const Real keep = static_cast<Real>(1 / (1 - dropout.p));
    PhiloxBlock block = {};
    for (int64_t i = 0; i < count; ++i) {
        const uint64_t element = first + static_cast<uint64_t>(i);
        if (i == 0 || element % 4 == 0) {
            const uint64_t index = element / 4;
            block =
                philox4x32_10({{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                static_cast<uint32_t>(dropout.offset), static_cast<uint32_t>(dropout.offset >> 32)}},
                              key0, key1);
        }
        const double uniform = static_cast<double>(block.word[element % 4] >> 8) * 0x1p-24;
        factors[i] = uniform >= dropout.p ? keep : Real{0};
    }
}

}  // namespace moek::cpu
