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

// Blocks that are computed side by side: an array per word, so that the compiler can use its widest registers.
static constexpr int kPhiloxLanes = 32;

static inline void philox4x32_10_lanes(uint64_t first_index, uint64_t offset, uint32_t key0, uint32_t key1,
                                       uint32_t (&words)[4][kPhiloxLanes]) {
    for (int lane = 0; lane < kPhiloxLanes; ++lane) {
        const uint64_t index = first_index + static_cast<uint64_t>(lane);
        words[0][lane] = static_cast<uint32_t>(index);
        words[1][lane] = static_cast<uint32_t>(index >> 32);
        words[2][lane] = static_cast<uint32_t>(offset);
        words[3][lane] = static_cast<uint32_t>(offset >> 32);
    }
    for (int round = 0; round < 10; ++round) {
        for (int lane = 0; lane < kPhiloxLanes; ++lane) {
            const uint64_t product0 = uint64_t{0xD2511F53} * words[0][lane];
            const uint64_t product1 = uint64_t{0xCD9E8D57} * words[2][lane];
            words[0][lane] = static_cast<uint32_t>(product1 >> 32) ^ words[1][lane] ^ key0;
            words[1][lane] = static_cast<uint32_t>(product1);
            words[2][lane] = static_cast<uint32_t>(product0 >> 32) ^ words[3][lane] ^ key1;
            words[3][lane] = static_cast<uint32_t>(product0);
        }
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
}

// Writes the factors (0 or 1 / (1 - p)) of the elements first .. first + count - 1, where element i of a matrix with d
// columns is t * d + c.
template <class Real>
static inline void dropout_factors(const Dropout& dropout, uint64_t first, int64_t count, Real* factors) {
    const uint32_t key0 = static_cast<uint32_t>(dropout.seed);
    const uint32_t key1 =
        static_cast<uint32_t>(dropout.seed >> 32) ^ (0x9E3779B9u * static_cast<uint32_t>(dropout.stream));
    const Real keep = static_cast<Real>(1 / (1 - dropout.p));
    // (word >> 8) * 2^-24 >= p in integers: scaling by a power of two is exact.
    const double scaled = dropout.p * 0x1p24;
    const uint32_t whole = static_cast<uint32_t>(scaled);
    const uint32_t least = whole + (static_cast<double>(whole) < scaled ? 1u : 0u);
    constexpr int64_t kElements = 4 * kPhiloxLanes;
    uint32_t words[4][kPhiloxLanes];
    Real lanes[kElements];
    for (int64_t done = 0; done < count;) {
        // Blocks start at multiples of 4 elements; the first may be entered in its middle.
        const uint64_t element = first + static_cast<uint64_t>(done);
        const int64_t skipped = static_cast<int64_t>(element % 4);
        const int64_t rest = count - done;
        const int64_t n = rest < kElements - skipped ? rest : kElements - skipped;
        philox4x32_10_lanes(element / 4, dropout.offset, key0, key1, words);
        for (int lane = 0; lane < kPhiloxLanes; ++lane) {
            for (int word = 0; word < 4; ++word) {
                lanes[4 * lane + word] = (words[word][lane] >> 8) >= least ? keep : Real{0};
            }
        }
        for (int64_t i = 0; i < n; ++i) factors[done + i] = lanes[skipped + i];
        done += n;
    }
}

}  // namespace moek::cpu
