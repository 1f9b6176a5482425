// The operands of a product as host code names them: tensors of any storage type and stride.
#pragma once

#include <cstdint>

#include "core/backend.hpp"
#include "cuda/common/philox.hpp"

namespace moek::cuda {

// What is multiplied, and how.
struct OperandTypes {
    int32_t token_dtype = MOEK_DTYPE_F32;   // also the operands' own type
    int32_t weight_dtype = MOEK_DTYPE_F32;  // the same, or F32 under 16-bit tokens
    bool tf32 = false;                      // f32 on tensor cores
};

// [T, elements], see TokenSource.
struct TokenOperand {
    const void* data = nullptr;
    int64_t stride = 0;
    int32_t elements = 0;
    const uint8_t* live = nullptr;
    Dropout dropout = {};
};

// Columns of a matrix in the workspace that is an operand of a product: rows of whole 16-byte chunks for every type.
inline int64_t operand_pitch(int64_t columns) {
    return (columns + 7) / 8 * 8;
}

// Which of a weight matrix' two indices is the sum's.
enum class WeightOrder {
    kDepthInLine,  // [columns, depth]: W, as in a linear layer
    kDepthByLine,  // [depth, columns]: a matrix whose transpose is W
};

// One weight matrix or two with lines of the same length, see WeightSource.
struct WeightOperand {
    const void* data[2] = {};
    int64_t stride[2] = {};
    int32_t lines[2] = {};
    int32_t second = 0;  // the line at which the second one starts
    int32_t elements = 0;
    WeightOrder order = WeightOrder::kDepthInLine;
};

inline WeightOperand one_weight(const void* data, int64_t stride, int64_t lines, int64_t elements, WeightOrder order) {
    WeightOperand weight;
    weight.data[0] = weight.data[1] = data;
    weight.stride[0] = weight.stride[1] = stride;
    weight.lines[0] = weight.second = static_cast<int32_t>(lines);
    weight.elements = static_cast<int32_t>(elements);
    weight.order = order;
    return weight;
}

}  // namespace moek::cuda
