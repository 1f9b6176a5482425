// Tensor maps on the host: what a matrix is to asynchronous tensor copies (tensor_copy.hpp).
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace moek::cuda {

using TensorMapEncoder = decltype(&cuTensorMapEncodeTiled);

// The driver's function, found at run time: this library is not linked to the driver. Null when the driver has none.
TensorMapEncoder find_tensor_map_encoder();

// [lines, elements] of 16-bit elements, and the box of one copy: box_lines x kBoxElements.
struct TensorMapShape {
    const void* data;
    int64_t elements;
    int64_t lines;
    int64_t stride;  // of lines, in elements
    int32_t box_lines;
};

inline constexpr int kBoxElements = 64;

// False when such a matrix cannot be copied this way: its lines do not start at multiples of 16 bytes, it is empty, or it is
// larger than a map holds. The driver decides; nothing is checked twice.
//
// A box's lines are 128 bytes long in shared memory, and the 16-byte chunks of each change places: chunk ^ (line & 7), as those of
// OperandTile.
bool make_tensor_map(TensorMapEncoder encoder, const TensorMapShape& shape, CUtensorMap& map);

}  // namespace moek::cuda
