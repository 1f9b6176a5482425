// How the CUDA backend cuts its matrix products: pure functions of the shape, the element size and the GPU.
#pragma once

#include <cstdint>
#include <string>

namespace moek {

// What the kernels are built around, see cuda/gemm/product.hpp.
inline constexpr int kProductThreads = 256;  // of a block
inline constexpr int kBlockRows = 128;       // results of a block, down
inline constexpr int kStageRowBytes = 128;   // of an operand's row in one stage of the pipeline
inline constexpr int kStages = 3;
inline constexpr int kWidestBlock = 128;  // results of a block, across: 32, 64 or this

// The sum over `depth` is cut into `splits` parts, which different blocks compute and which are added in their order.
struct ProductPlan {
    int block_columns;    // results of a block, across
    int64_t row_tiles;    // blocks down
    int column_tiles;     // blocks across
    int splits;           // blocks along the depth
    int64_t split_depth;  // of the sum, for every split but the last; a multiple of a stage's depth
    int cluster = 1;      // neighbouring blocks down that share the columns' operand; changes no bit
};

// Partial sums cost a write and a read each, and the more there are the fewer steps a block has to fill its pipeline with.
inline constexpr int64_t kMostSplits = 32;

// The width of a block that covers the columns with the fewest blocks, since each of them reads the rows' operand again,
// and of those widths the smallest.
int plan_block_columns(int64_t columns);

// P [T, columns] = X [T, depth] W^T: few columns, a long sum. `column_tiles` is given, because two products with a width of
// their own may share the launch. Rows are cut first; the depth, into at most `most_splits`, only where rows alone would
// leave multiprocessors idle.
ProductPlan plan_shrink(int64_t T, int block_columns, int column_tiles, int64_t depth, int operand_bytes, int sm_count,
                        int64_t most_splits);

// The same with a cut that depends on the depth alone, so that a token's sums do not depend on T.
ProductPlan plan_invariant_shrink(int64_t T, int block_columns, int column_tiles, int64_t depth, int operand_bytes);

// G [columns, width] = L [T, columns]^T X [T, width]: the sum runs over tokens.
ProductPlan plan_weight_gradient(int64_t T, int64_t width, int64_t columns, int operand_bytes, int sm_count);

// Blocks of a cluster for a product whose rows are tokens, at most `most_blocks` (1, 2 or 4): 1 where sharing saves little or costs
// more than that. The rows' tiles are rounded up to whole clusters.
int plan_cluster(const ProductPlan& plan, int operand_bytes, int most_blocks, int sm_count);

// For people: `64x1 tiles of 128x128, 2 splits of 2048`.
std::string describe(const ProductPlan& plan);

}  // namespace moek
