// How the CUDA backend cuts the products with core_merge's cores: pure functions of the shape and the element size.
#pragma once

#include <cstdint>
#include <string>

namespace moek {

// A block takes kBlockRows tokens and `block_columns` ranks through all cores. A stage of its pipeline holds
// kStageRowBytes of the sum: a part of one core, or several small cores in slots of a power of two steps.
struct CudaCorePlan {
    int block_columns;        // ranks of a block: 32 or 64
    int column_tiles;         // blocks that share their tokens
    int slot_depth;           // steps of a stage that belong to one core
    int cores_per_stage;      // slots in use; 1 unless slots are smaller than a stage
    int64_t stages_per_core;  // 1 unless cores are larger than a stage

    // One block has a token's whole row: the router's part runs in the same kernel.
    bool fused() const { return column_tiles == 1; }

    bool operator==(const CudaCorePlan&) const = default;
};

CudaCorePlan plan_cuda_cores(int64_t r, int64_t E, int operand_bytes);

// How many parts the sums of u and dv may be cut into: the block that routes a tile of tokens reads them all by itself.
int64_t cuda_core_merge_splits(int64_t T);

// For people: `1 tile of 64, 4 cores of 16 steps in a stage`.
std::string to_string(const CudaCorePlan& plan);

}  // namespace moek
