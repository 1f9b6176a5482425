// The cases, by topic. Each function runs its kernels on the current device and records what they return.
#pragma once

#include "tests/conformance/record.hpp"

namespace moek::conformance {

void record_conversions(Record& record);
void record_copies(Record& record);
void record_tensor_copies(Record& record);
void record_matrices(Record& record);
void record_products(Record& record);
void record_warp_functions(Record& record);
void record_arithmetic(Record& record);

}  // namespace moek::conformance
