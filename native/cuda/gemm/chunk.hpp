// 16 bytes of operand elements on their way from global to shared memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cuda/common/cp_async.hpp"
#include "cuda/common/element.hpp"

namespace moek::cuda {

// Elements of Operand in a chunk.
template <class Operand>
inline constexpr int kChunkElements = 16 / static_cast<int>(sizeof(Operand));

// Rounds the values to Operand and stores the chunk.
template <class Operand>
__device__ __forceinline__ void store_chunk(unsigned char* target, const float (&values)[kChunkElements<Operand>]) {
    if constexpr (std::is_same_v<Operand, float>) {
        *reinterpret_cast<float4*>(target) = make_float4(values[0], values[1], values[2], values[3]);
    } else {
        *reinterpret_cast<uint4*>(target) =
            make_uint4(pack2<Operand>(values[0], values[1]), pack2<Operand>(values[2], values[3]),
                       pack2<Operand>(values[4], values[5]), pack2<Operand>(values[6], values[7]));
    }
}

// The elements at `source` as floats, of which `valid` exist (may be <= 0 or more than there is room for); the others
// are 0. `aligned`: source is a multiple of 16 bytes.
template <int kCount, class Stored>
__device__ __forceinline__ void load_values(float (&values)[kCount], const Stored* source, int valid, bool aligned) {
    constexpr int kVector = kChunkElements<Stored>;
    // Fewer elements than 16 bytes hold start at any multiple of their own size.
    if constexpr (kCount % kVector == 0) {
        if (aligned && valid >= kCount) {
#pragma unroll
            for (int i = 0; i < kCount; i += kVector) {
                if constexpr (std::is_same_v<Stored, float>) {
                    const float4 v = *reinterpret_cast<const float4*>(source + i);
                    values[i] = v.x, values[i + 1] = v.y, values[i + 2] = v.z, values[i + 3] = v.w;
                } else {
                    const uint4 v = *reinterpret_cast<const uint4*>(source + i);
                    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                    for (int w = 0; w < 4; ++w) {
                        const float2 pair = unpack2<Stored>(words[w]);
                        values[i + 2 * w] = pair.x, values[i + 2 * w + 1] = pair.y;
                    }
                }
            }
            return;
        }
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = i < valid ? to_float(source[i]) : 0.0f;
}

// Brings a chunk's `valid` elements at `source` into shared memory, zeros behind them, asynchronously: for elements that are
// stored as the operand needs them in aligned rows. `anywhere` is readable aligned memory: the address of a copy of nothing.
template <class Operand>
__device__ __forceinline__ void copy_chunk_async(unsigned char* target, const Operand* source, int valid,
                                                 const Operand* anywhere) {
    const int count = min(max(valid, 0), kChunkElements<Operand>);
    cp_async<16>(target, count > 0 ? source : anywhere, count * static_cast<int>(sizeof(Operand)));
}

// The same for any type and alignment; done when this returns.
template <class Operand, class Stored>
__device__ __forceinline__ void copy_chunk(unsigned char* target, const Stored* source, int valid, bool aligned) {
    float values[kChunkElements<Operand>];
    load_values(values, source, valid, aligned);
    store_chunk<Operand>(target, values);
}

}  // namespace moek::cuda
