// Operands of host code to the sources of a kernel.
#pragma once

#include "cuda/gemm/operands.hpp"
#include "cuda/gemm/source.hpp"

namespace moek::cuda {

template <class Stored>
TokenSource<Stored> make_source(const TokenOperand& operand, int64_t T) {
    const Stored* data = static_cast<const Stored*>(operand.data);
    TokenSource<Stored> source = {};
    source.data = data;
    source.stride = operand.stride;
    source.tokens = T;
    source.elements = operand.elements;
    source.aligned = rows_are_aligned(data, operand.stride);
    source.live = operand.live;
    source.dropout = operand.dropout;
    return source;
}

template <class Stored>
WeightSource<Stored> make_source(const WeightOperand& operand) {
    WeightSource<Stored> source = {};
    source.aligned = 1;
    for (int i = 0; i < 2; ++i) {
        source.data[i] = static_cast<const Stored*>(operand.data[i]);
        source.stride[i] = operand.stride[i];
        source.lines[i] = operand.lines[i];
        if (!rows_are_aligned(source.data[i], operand.stride[i])) source.aligned = 0;
    }
    source.second = operand.second;
    source.elements = operand.elements;
    return source;
}

}  // namespace moek::cuda
