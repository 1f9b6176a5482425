// cp.async.bulk.tensor: copies of boxes of a tensor from global memory into the shared memory of one block or of several of
// a cluster, each of which has an mbarrier that counts the bytes.
//
// In order a copy happens when no thread can go on without it, at random any time after its issue, in each block at another.
// Until then its target holds NaN.
#pragma once

#include <source_location>

#include "emulation/execution/tensor_copies.hpp"

namespace moek::emulation {

// Here and not in the library, so that the sanitizers see the accesses as the kernel's.
inline void make_tensor_copy(const PendingTensorCopy& copy) {
    struct alignas(16) Chunk {
        uint64_t word[2];
    };
    const TensorView& view = copy.view;
    const int64_t elements = static_cast<int64_t>(16 / view.element_bytes);
    for (uint32_t offset = 0; offset < view.box_bytes(); offset += 16) {
        const int64_t line = int64_t{copy.y} + offset / view.line_bytes();
        const int64_t first = int64_t{copy.x} + offset % view.line_bytes() / view.element_bytes;
        const bool exists = line >= 0 && line < static_cast<int64_t>(view.lines);
        const unsigned char* const source =
            view.base + line * static_cast<int64_t>(view.stride) + first * static_cast<int64_t>(view.element_bytes);
        unsigned char* const target = copy.target + view.place(offset);
        if (exists && first >= 0 && first + elements <= static_cast<int64_t>(view.elements) &&
            reinterpret_cast<uintptr_t>(source) % 16 == 0) {
            *reinterpret_cast<Chunk*>(target) = *reinterpret_cast<const Chunk*>(source);
            continue;
        }
        for (uint32_t byte = 0; byte < 16; ++byte) {
            const int64_t element = first + byte / view.element_bytes;
            const bool inside = exists && element >= 0 && element < static_cast<int64_t>(view.elements);
            target[byte] = inside ? source[byte] : static_cast<unsigned char>(0);
        }
    }
}

// Checks the copy and starts it. `blocks`: bit i for the cluster's block i; 0 for this block alone. The target and the barrier
// are this block's; in other blocks they have the same place.
void issue_tensor_copy(void* target, const void* map, int x, int y, void* barrier, unsigned blocks,
                       void (*make)(const PendingTensorCopy&), std::source_location where);

inline void tensor_copy(void* target, const void* map, int x, int y, void* barrier, unsigned blocks,
                        std::source_location where = std::source_location::current()) {
    issue_tensor_copy(target, map, x, y, barrier, blocks, make_tensor_copy, where);
}

}  // namespace moek::emulation
