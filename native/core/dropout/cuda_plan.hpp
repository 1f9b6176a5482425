// How a dropout mask is cut into blocks on a GPU: a pure function of its shape and the number of multiprocessors.
#pragma once

#include <cstdint>
#include <string>

namespace moek {

// A thread writes the part of a row that one Philox block covers, four elements at most. A block of threads is a
// rectangle: `columns` Philox blocks of `rows` neighbouring rows.
struct CudaDropoutPlan {
    int columns;  // a power of two
    int rows;
    int grid_columns;
    int grid_rows;

    bool operator==(const CudaDropoutPlan&) const = default;
};

CudaDropoutPlan plan_cuda_dropout(int64_t T, int64_t d, int sm_count);

std::string to_string(const CudaDropoutPlan& plan);

}  // namespace moek
