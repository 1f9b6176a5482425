// The end of a product whose result is large: from sums to Y, in whole 16-byte vectors where rows are aligned.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/philox.hpp"
#include "cuda/common/vector_access.hpp"
#include "cuda/gemm/expand.hpp"
#include "cuda/gemm/staging.hpp"

namespace moek::cuda {

// Y [T, columns] and what becomes of a sum on its way there.
template <class Element>
struct ExpandTarget {
    Element* y;
    int64_t stride;
    int64_t T;
    int32_t columns;
    int32_t aligned;
    int32_t accumulate;
    int32_t masked;  // the whole sum, by dropout's mask
    Dropout dropout;
};

// Writes a block's tile of Y, whose first result is (first_token, first_column). All threads take part; `shared` is the
// product's own memory.
template <class P>
__device__ __forceinline__ void write_expanded(const ExpandTarget<typename P::Operand>& target, typename P::Sums& sums,
                                               int64_t first_token, int first_column, unsigned char* shared) {
    using Operand = typename P::Operand;
    using Staged = Staging<P, 4>;
    const float* const staged = Staged::put(sums, shared);
    constexpr int kVector = kVectorElements<Operand>;
    constexpr int kRowVectors = P::kBlockColumns / kVector;
    for (int i = static_cast<int>(threadIdx.x); i < kBlockRows * kRowVectors; i += kProductThreads) {
        const int row = i / kRowVectors;
        const int column = i % kRowVectors * kVector;
        const int64_t token = first_token + row;
        const int valid = target.columns - first_column - column;
        if (token >= target.T || valid <= 0) continue;

        float values[kVector];
#pragma unroll
        for (int v = 0; v < kVector; v += 4) {
            const float4 four = *reinterpret_cast<const float4*>(staged + row * Staged::kPitch + column + v);
            values[v] = four.x, values[v + 1] = four.y, values[v + 2] = four.z, values[v + 3] = four.w;
        }
        if (target.masked != 0) {
            float factors[kVector];
            const int64_t element = token * target.columns + first_column + column;
            dropout_run(target.dropout, static_cast<uint64_t>(element), factors);
#pragma unroll
            for (int v = 0; v < kVector; ++v) values[v] *= factors[v];
        }
        Operand* const place = target.y + token * target.stride + first_column + column;
        if (target.accumulate != 0) {
            const Vector<Operand> old = load_vector(place, valid, target.aligned != 0);
#pragma unroll
            for (int v = 0; v < kVector; ++v) values[v] += to_float(old.element[v]);
        }
        Vector<Operand> rounded;
#pragma unroll
        for (int v = 0; v < kVector; ++v) rounded.element[v] = from_float<Operand>(values[v]);
        store_vector(place, rounded, valid, target.aligned != 0);
    }
}

template <class Element>
ExpandTarget<Element> make_target(const Expand& expand) {
    ExpandTarget<Element> target = {};
    target.y = static_cast<Element*>(expand.y);
    target.stride = expand.y_stride;
    target.T = expand.T;
    target.columns = expand.columns;
    target.aligned = rows_are_aligned(target.y, expand.y_stride);
    target.accumulate = expand.accumulate;
    target.masked = expand.mask == ExpandMask::kEverything && expand.dropout.active();
    target.dropout = expand.dropout;
    return target;
}

}  // namespace moek::cuda
