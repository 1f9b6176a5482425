// Dropout's mask, bit for bit what moek_dropout_args states: Philox4x32-10 (Salmon et al., "Parallel random numbers: as
// easy as 1, 2, 3", SC 2011) over the index of the element.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace moek::cuda {

// Ten rounds on the four words of `counter`.
__device__ __forceinline__ uint4 philox4x32_10(uint4 counter, uint32_t key0, uint32_t key1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const uint32_t low0 = 0xD2511F53u * counter.x;
        const uint32_t high0 = __umulhi(0xD2511F53u, counter.x);
        const uint32_t low1 = 0xCD9E8D57u * counter.z;
        const uint32_t high1 = __umulhi(0xCD9E8D57u, counter.z);
        counter = make_uint4(high1 ^ counter.y ^ key0, low1, high0 ^ counter.w ^ key1, low0);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

// One mask as kernels use it, made on the host.
struct Dropout {
    uint64_t offset;
    uint32_t key0, key1;
    uint32_t least;  // a word whose upper 24 bits are at least this keeps its element
    float keep;      // the factor of a kept element, 1 / (1 - p)

    __host__ __device__ bool active() const { return least != 0; }
};

// `stream` is one of moek_dropout_stream.
inline Dropout make_dropout(double p, uint64_t seed, uint64_t offset, int32_t stream) {
    // (word >> 8) * 2^-24 >= p in integers: scaling by a power of two is exact.
    const double scaled = p * 16777216.0;
    const uint32_t whole = static_cast<uint32_t>(scaled);
    const uint32_t least = whole + (static_cast<double>(whole) < scaled ? 1u : 0u);
    return {offset, static_cast<uint32_t>(seed),
            static_cast<uint32_t>(seed >> 32) ^ (0x9E3779B9u * static_cast<uint32_t>(stream)), least,
            static_cast<float>(1 / (1 - p))};
}

// The factors (0 or keep) of the elements 4 block .. 4 block + 3, where element i of a matrix with d columns is t d + c.
__device__ __forceinline__ float4 dropout_factors(const Dropout& dropout, uint64_t block) {
    const uint4 counter =
        make_uint4(static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                   static_cast<uint32_t>(dropout.offset), static_cast<uint32_t>(dropout.offset >> 32));
    const uint4 words = philox4x32_10(counter, dropout.key0, dropout.key1);
    return make_float4(
        (words.x >> 8) >= dropout.least ? dropout.keep : 0.0f, (words.y >> 8) >= dropout.least ? dropout.keep : 0.0f,
        (words.z >> 8) >= dropout.least ? dropout.keep : 0.0f, (words.w >> 8) >= dropout.least ? dropout.keep : 0.0f);
}

// The factor of one element. Neighbours in a row share a block: prefer dropout_factors where several are wanted.
__device__ __forceinline__ float dropout_factor(const Dropout& dropout, uint64_t element) {
    const float4 factors = dropout_factors(dropout, element / 4);
    const uint32_t which = static_cast<uint32_t>(element % 4);
    const float low = which == 0 ? factors.x : factors.y;
    const float high = which == 2 ? factors.z : factors.w;
    return which < 2 ? low : high;
}

// The factors of kCount neighbours, the elements first .. first + kCount - 1.
template <int kCount>
__device__ __forceinline__ void dropout_run(const Dropout& dropout, uint64_t first, float (&factors)[kCount]) {
    static_assert(kCount % 4 == 0, "whole blocks");
    // The run starts anywhere in a block of the generator, so it touches one block more than it holds.
    float window[kCount + 4];
#pragma unroll
    for (int block = 0; block <= kCount / 4; ++block) {
        const float4 four = dropout_factors(dropout, first / 4 + static_cast<uint64_t>(block));
        window[4 * block] = four.x, window[4 * block + 1] = four.y;
        window[4 * block + 2] = four.z, window[4 * block + 3] = four.w;
    }
    const uint32_t skip = static_cast<uint32_t>(first % 4);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
        const float low = skip == 0 ? window[i] : window[i + 1];
        const float high = skip == 2 ? window[i + 2] : window[i + 3];
        factors[i] = skip < 2 ? low : high;
    }
}

}  // namespace moek::cuda
