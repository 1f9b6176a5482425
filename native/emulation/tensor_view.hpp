// What a tensor map says, for those of two dimensions: lines of contiguous elements in global memory, and the box that one copy
// brings into shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moek::emulation {

struct TensorView {
    const unsigned char* base;
    uint64_t elements;  // of a line
    uint64_t lines;
    uint64_t stride;  // of lines, in bytes
    uint32_t element_bytes;
    uint32_t box_elements;
    uint32_t box_lines;
    uint32_t swizzle_bytes;  // 16 for none, 32, 64, 128

    uint32_t line_bytes() const { return box_elements * element_bytes; }
    uint32_t box_bytes() const { return line_bytes() * box_lines; }
    // What the target has to be a multiple of, for its chunks to lie where the swizzle is reckoned from.
    uint32_t alignment() const { return swizzle_bytes == 16 ? 128 : 8 * swizzle_bytes; }
    // Where a byte of the box lies in shared memory: the 16-byte chunks of 32, 64 or 128 bytes change places by an exclusive
    // or with the number of the 128-byte row.
    uint32_t place(uint32_t offset) const { return offset ^ ((offset >> 7 & (swizzle_bytes / 16 - 1)) << 4); }
};

// A map's bits. False when it was not made by the emulation's cuTensorMapEncodeTiled.
bool read_tensor_map(const void* map, TensorView& view);

}  // namespace moek::emulation
