/**
 * @file gemm_write.hpp
 * @brief Tiles of sums on their way into a product's result. Only for `*_isa.cpp` sources.
 */
#pragma once

#include "cpu/common/gemm_pack.hpp"

namespace moek::cpu::MOEK_ISA_NAME {

template <class Acc>
inline void write_run(const GemmResult& c, Acc alpha, int64_t outer, int64_t first, int64_t count, Acc* values,
                      void* target) {
    if (c.hook.apply) {
        store_scaled_run<Acc>(alpha, values, count, sizeof(Acc) == 8 ? MOEK_DTYPE_F64 : MOEK_DTYPE_F32, values);
        c.hook.apply(c.hook.state, outer, first, count, values);
        alpha = 1;
    }
    if (c.accumulate) {
        add_scaled_run<Acc>(alpha, values, count, c.dtype, target);
    } else {
        store_scaled_run<Acc>(alpha, values, count, c.dtype, target);
    }
}

/** Writes tile [rows, cols] with row stride `width` at (row0, col0) of C. Destroys the tile. */
template <class Acc>
inline void write_tile(const GemmResult& c, Acc alpha, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                       Acc* tile, int64_t width) {
    if (c.row_major) {
        for (int64_t i = 0; i < rows; ++i) {
            void* target = element(c.data, c.dtype, (row0 + i) * c.stride + col0);
            write_run(c, alpha, row0 + i, col0, cols, tile + i * width, target);
        }
        return;
    }
    using V = Vec<Acc>;
    constexpr int64_t kLanes = V::kLanes;
    Acc columns[size_t{V::kLanes} * size_t{V::kLanes}];
    for (int64_t i = 0; i < rows; i += kLanes) {
        const int64_t run = rows - i < kLanes ? rows - i : kLanes;
        for (int64_t j0 = 0; j0 < cols; j0 += kLanes) {
            const int64_t count = cols - j0 < kLanes ? cols - j0 : kLanes;
            const Acc* const from = tile + i * width + j0;
            if (run == kLanes && count == kLanes) {
                V::transpose(from, width, columns, kLanes);
            } else {
                for (int64_t j = 0; j < count; ++j) {
                    for (int64_t k = 0; k < run; ++k) columns[j * kLanes + k] = from[k * width + j];
                }
            }
            for (int64_t j = 0; j < count; ++j) {
                void* target = element(c.data, c.dtype, (col0 + j0 + j) * c.stride + row0 + i);
                write_run(c, alpha, col0 + j0 + j, row0 + i, run, columns + j * kLanes, target);
            }
        }
    }
}

}  // namespace moek::cpu::MOEK_ISA_NAME
