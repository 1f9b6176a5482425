// 16 rows of the caller's side by side: element i of every array belongs to row i of a group. For files `*_lanes_isa.cpp`.
//
// A row that is shorter than a register wastes most of each step; a row in a lane wastes nothing, whatever its length. A
// loop over the rows must give all of them the same bits, however the compiler cuts it up, hence the way those files are
// compiled: see native/CMakeLists.txt. A group that is not full repeats its last row, so a row's bits do not depend on
// how many there are either.
#pragma once

#include "cpu/common/simd.hpp"

namespace moek::cpu::MOEK_ISA_NAME {

constexpr int kLaneRows = 16;

struct alignas(64) Lanes {
    float at[size_t{kLaneRows}];
};
struct alignas(64) IntLanes {
    int32_t at[size_t{kLaneRows}];
};

// The loop that such code consists of: no branch, no alias, a length that the compiler knows.
template <class Body>
static inline void for_lanes(Body body) {
    for (int i = 0; i < kLaneRows; ++i) body(i);
}

// Rows first .. first + count - 1, then the last of them again.
struct Group {
    int64_t first;
    int64_t count;

    int64_t row(int64_t i) const { return first + (i < count ? i : count - 1); }
};

// Rows of a matrix to columns of lanes. `lanes` has room for whole registers of columns.
static inline void load_columns(const float* rows, int64_t stride, const Group& group, int64_t columns, Lanes* lanes) {
    using V = VecF32;
    constexpr int64_t kStep = V::kLanes;
    float block[size_t{V::kLanes} * size_t{V::kLanes}];
    for (int64_t r = 0; r < kLaneRows; r += kStep) {
        for (int64_t c = 0; c < columns; c += kStep) {
            const int count = static_cast<int>(columns - c < kStep ? columns - c : kStep);
            float* const out = lanes[c].at + r;
            if (count == kStep && r + kStep <= group.count) {
                V::transpose(rows + group.row(r) * stride + c, stride, out, kLaneRows);
                continue;
            }
            for (int64_t i = 0; i < kStep; ++i) {
                V::store(block + i * kStep, V::load_partial(rows + group.row(r + i) * stride + c, count));
            }
            V::transpose(block, kStep, out, kLaneRows);
        }
    }
}

template <class Storage>
static inline void load_columns(const Storage* rows, int64_t stride, const Group& group, int64_t columns,
                                Lanes* lanes) {
    for (int64_t i = 0; i < kLaneRows; ++i) {
        const Storage* const row = rows + group.row(i) * stride;
        for (int64_t c = 0; c < columns; ++c) lanes[c].at[i] = load(row[c]);
    }
}

// And back; added to what is there if asked for.
static inline void store_columns(const Lanes* lanes, const Group& group, int64_t columns, bool accumulate, float* rows,
                                 int64_t stride) {
    using V = VecF32;
    constexpr int64_t kStep = V::kLanes;
    float block[size_t{V::kLanes} * size_t{V::kLanes}];
    for (int64_t r = 0; r < group.count; r += kStep) {
        for (int64_t c = 0; c < columns; c += kStep) {
            const int count = static_cast<int>(columns - c < kStep ? columns - c : kStep);
            V::transpose(lanes[c].at + r, kLaneRows, block, kStep);
            const int64_t last = group.count - r < kStep ? group.count - r : kStep;
            for (int64_t i = 0; i < last; ++i) {
                float* const row = rows + (group.first + r + i) * stride + c;
                const V::Reg values = V::load(block + i * kStep);
                if (count == kStep) {
                    V::store(row, accumulate ? V::add(V::load(row), values) : values);
                } else {
                    V::store_partial(row, accumulate ? V::add(V::load_partial(row, count), values) : values, count);
                }
            }
        }
    }
}

template <class Storage>
static inline void store_columns(const Lanes* lanes, const Group& group, int64_t columns, bool accumulate,
                                 Storage* rows, int64_t stride) {
    for (int64_t i = 0; i < group.count; ++i) {
        Storage* const row = rows + (group.first + i) * stride;
        for (int64_t c = 0; c < columns; ++c) {
            row[c] = store<Storage>(accumulate ? load(row[c]) + lanes[c].at[i] : lanes[c].at[i]);
        }
    }
}

}  // namespace moek::cpu::MOEK_ISA_NAME
