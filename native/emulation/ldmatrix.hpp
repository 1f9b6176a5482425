// ldmatrix: 8 x 8 matrices of 16-bit elements from shared memory into the fragments of a warp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

#include "emulation/execution/rendezvous.hpp"
#include "emulation/execution/thread.hpp"
#include "emulation/shared_memory.hpp"

namespace moek::emulation {

// Counts the conflicts of the rows' addresses, once per warp.
void count_matrix_conflicts(const Slot* rows, int matrices);

template <bool kTranspose, size_t kMatrices>
void ldmatrix(uint32_t (&r)[kMatrices], const void* row, std::source_location where = std::source_location::current()) {
    static_assert(kMatrices == 1 || kMatrices == 2 || kMatrices == 4, "ldmatrix loads 1, 2 or 4 matrices");
    check_shared(row, 16, 16, "ldmatrix", where);
    const Slot* rows = exchange(0xFFFFFFFFu, WarpOperation::kLoadMatrix, &row, sizeof(row), where);
    const unsigned lane = this_thread().lane;
    if (lane == 0) count_matrix_conflicts(rows, static_cast<int>(kMatrices));
    for (unsigned matrix = 0; matrix < kMatrices; ++matrix) {
        uint32_t packed = 0;
        for (unsigned i = 0; i < 2; ++i) {
            const unsigned fast = 2 * (lane % 4) + i;
            const unsigned slow = lane / 4;
            const uint16_t* source;
            __builtin_memcpy(&source, rows[8 * matrix + (kTranspose ? fast : slow)].bytes, sizeof(source));
            packed |= static_cast<uint32_t>(source[kTranspose ? slow : fast]) << (16 * i);
        }
        r[matrix] = packed;
    }
}

}  // namespace moek::emulation
