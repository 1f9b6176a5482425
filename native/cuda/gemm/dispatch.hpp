// From the types of a call to the types of a kernel.
#pragma once

#include <type_traits>
#include <utility>

#include "cuda/common/element.hpp"
#include "cuda/gemm/accumulator.hpp"
#include "cuda/gemm/operands.hpp"

namespace moek::cuda {

// body(std::integral_constant<int, 32 | 64 | 128>)
template <class Body>
void with_block_columns(int columns, Body&& body) {
    switch (columns) {
        case 32:
            return body(std::integral_constant<int, 32>());
        case 64:
            return body(std::integral_constant<int, 64>());
        default:
            return body(std::integral_constant<int, 128>());
    }
}

// body(std::integral_constant<Along, ...>): how a weight's lines lie in the product.
template <class Body>
void with_weight_order(WeightOrder order, Body&& body) {
    if (order == WeightOrder::kDepthInLine) {
        body(std::integral_constant<Along, Along::kDepth>());
    } else {
        body(std::integral_constant<Along, Along::kRows>());
    }
}

// body(Stored()): the type of a 16-bit product's weights.
template <class Operand, class Body>
void with_weight_type(int32_t dtype, Body&& body) {
    if (dtype == MOEK_DTYPE_F32) {
        body(float());
    } else {
        body(Operand());
    }
}

// body(std::integral_constant<Math, ...>) for float operands.
template <class Body>
void with_float_math(bool tf32, Body&& body) {
    if (tf32) {
        body(std::integral_constant<Math, Math::kTf32>());
    } else {
        body(std::integral_constant<Math, Math::kExact>());
    }
}

}  // namespace moek::cuda
