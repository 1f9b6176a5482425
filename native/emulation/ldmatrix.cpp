#include "emulation/ldmatrix.hpp"

#include <algorithm>

#include "emulation/execution/statistics.hpp"

namespace moek::emulation {

void count_matrix_conflicts(const Slot* rows, int matrices) {
    for (int matrix = 0; matrix < matrices; ++matrix) {
        // Shared memory has 32 banks of 4 bytes: a row occupies 4 of them, and rows 128 bytes apart the same 4.
        int rows_per_group[8] = {};
        for (int i = 0; i < 8; ++i) {
            uintptr_t address;
            __builtin_memcpy(&address, rows[8 * matrix + i].bytes, sizeof(address));
            ++rows_per_group[address / 16 % 8];
        }
        ++statistics().matrices;
        statistics().bank_conflicts += static_cast<uint64_t>(*std::max_element(rows_per_group, rows_per_group + 8) - 1);
    }
}

}  // namespace moek::emulation
