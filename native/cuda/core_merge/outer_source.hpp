// The rows p (x) u of a product's operand, which never exist in memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/gemm/chunk.hpp"

namespace moek::cuda {

// [tokens, E r]: element e r + i of a token is p_e u_i, rounded once to the operand's type. A weight of 0 gives 0, whatever
// u is. See source.hpp for what a source is.
struct OuterSource {
    const float* p;  // [tokens, E]
    const float* u;  // [tokens, r]
    int64_t tokens;
    int32_t E;
    int32_t r;
    int32_t aligned;  // rows of u, to 16 bytes

    template <class Operand>
    __device__ __forceinline__ bool is_async() const {
        return false;
    }

    template <class Operand>
    __device__ __forceinline__ void copy_async(unsigned char*, int64_t, int) const {}

    template <class Operand>
    __device__ __forceinline__ void copy(unsigned char* target, int64_t line, int element) const {
        constexpr int kCount = kChunkElements<Operand>;
        float values[kCount];
        int e = element / r;
        int i = element % r;
        if (line >= tokens || e >= E) {
#pragma unroll
            for (int k = 0; k < kCount; ++k) values[k] = 0;
        } else if (i + kCount <= r) {
            const float weight = p[line * E + e];
            load_values(values, u + line * r + i, kCount, aligned != 0 && i % 4 == 0);
#pragma unroll
            for (int k = 0; k < kCount; ++k) values[k] = weight == 0 ? 0.0f : weight * values[k];
        } else {
#pragma unroll
            for (int k = 0; k < kCount; ++k) {
                const float weight = e < E ? p[line * E + e] : 0.0f;
                values[k] = weight == 0 ? 0.0f : weight * u[line * r + i];
                if (++i == r) i = 0, ++e;
            }
        }
        store_chunk<Operand>(target, values);
    }
};

}  // namespace moek::cuda
