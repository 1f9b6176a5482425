// The shrink in clusters against the one without: the same bits, whatever the shape, the schedule and the cut, and less read.
#include "cuda/gemm/cluster_shrink.hpp"

#include <random>

#include "cuda/common/tensor_map.hpp"
#include "cuda/gemm/shrink_launch.hpp"
#include "emulation/conversion.hpp"
#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

// A matrix in device memory of exactly its size, in random numbers of a 16-bit type.
class DeviceMatrix {
  public:
    DeviceMatrix(int64_t lines, int64_t elements, int64_t stride, int32_t dtype) {
        const size_t count = lines == 0 ? 0 : static_cast<size_t>((lines - 1) * stride + elements);
        if (count != 0) cudaMalloc(&data_, count * sizeof(uint16_t));
        std::mt19937 engine(static_cast<unsigned>(lines * 1000 + elements));
        std::normal_distribution<float> normal;
        for (size_t i = 0; i < count; ++i) {
            data_[i] = dtype == MOEK_DTYPE_BF16 ? bf16_from_float(normal(engine)) : f16_from_float(normal(engine));
        }
    }
    ~DeviceMatrix() { cudaFree(data_); }
    DeviceMatrix(const DeviceMatrix&) = delete;
    DeviceMatrix& operator=(const DeviceMatrix&) = delete;

    const uint16_t* data() const { return data_; }

  private:
    uint16_t* data_ = nullptr;
};

int64_t padded(int64_t elements) {
    return (elements + 7) / 8 * 8;
}

// P = X [W; V]^T, with V or without, or X W where `by_line`.
struct Case {
    int64_t T;
    int32_t depth;
    int32_t first;   // lines of W
    int32_t second;  // and of V
    int splits = 1;
    bool by_line = false;
    bool separate = false;  // V multiplies tokens of its own
    int32_t dtype = MOEK_DTYPE_BF16;

    int32_t columns() const { return first + second; }
};

class ShrinkCall {
  public:
    explicit ShrinkCall(const Case& c)
        : case_(c),
          x_(c.T, c.depth, padded(c.depth), c.dtype),
          z_(c.separate ? c.T : 0, c.depth, padded(c.depth), c.dtype),
          w_(c.by_line ? c.depth : c.first, c.by_line ? c.first : c.depth, padded(c.by_line ? c.first : c.depth),
             c.dtype),
          v_(c.second, c.depth, padded(c.depth), c.dtype) {
        shrink.T = c.T;
        shrink.depth = c.depth;
        shrink.columns = c.columns();
        shrink.types = {c.dtype, c.dtype, false};
        const auto order = c.by_line ? cuda::WeightOrder::kDepthByLine : cuda::WeightOrder::kDepthInLine;
        cuda::WeightOperand weights = c.by_line ? cuda::one_weight(w_.data(), padded(c.first), c.depth, c.first, order)
                                                : cuda::one_weight(w_.data(), padded(c.depth), c.first, c.depth, order);
        if (c.separate) {
            shrink.parts = 2;
            shrink.part[1] = {{z_.data(), padded(c.depth), c.depth, nullptr, {}},
                              cuda::one_weight(v_.data(), padded(c.depth), c.second, c.depth, order),
                              c.first};
        } else if (c.second != 0) {
            weights.data[1] = v_.data();
            weights.stride[1] = padded(c.depth);
            weights.lines[1] = c.second;
        }
        shrink.part[0] = {{x_.data(), padded(c.depth), c.depth, nullptr, {}}, weights, 0};

        ProductPlan& plan = shrink.plan;
        const int widest = c.separate ? std::max(c.first, c.second) : c.columns();
        plan.block_columns = std::max(64, plan_block_columns(widest));
        plan.row_tiles = (c.T + kBlockRows - 1) / kBlockRows;
        const auto tiles = [&](int columns) { return (columns + plan.block_columns - 1) / plan.block_columns; };
        plan.column_tiles = c.separate ? tiles(c.first) + tiles(c.second) : tiles(c.columns());
        const int stages = (c.depth + 63) / 64;
        plan.split_depth = (stages + c.splits - 1) / c.splits * 64;
        plan.splits = static_cast<int>((c.depth + plan.split_depth - 1) / plan.split_depth);
        shrink.tensor_map_encoder = cuda::find_tensor_map_encoder();
    }

    // The partial sums, by clusters of so many blocks; 1: by the kernel without. Empty when clusters do not take the call.
    std::vector<float> run(int cluster) {
        std::vector<float> partials(static_cast<size_t>(shrink.plan.splits * case_.T * case_.columns()), NAN);
        std::vector<int32_t> counters(5, 7);
        shrink.partials = partials.data();
        shrink.clear = counters.data();
        shrink.clear_count = 5;
        shrink.plan.cluster = cluster;
        if (cluster > 1) {
            if (!cuda::run_cluster_shrink(shrink, nullptr)) return {};
        } else if (case_.dtype == MOEK_DTYPE_BF16) {
            cuda::launch_shrink_bf16(shrink, nullptr);
        } else {
            cuda::launch_shrink_f16(shrink, nullptr);
        }
        EXPECT_EQ(counters, std::vector<int32_t>(5, 0));
        return partials;
    }

    cuda::Shrink shrink;

  private:
    const Case case_;
    DeviceMatrix x_, z_, w_, v_;
};

void expect_same_bits(const std::vector<float>& got, const std::vector<float>& expected) {
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i])) << i;
        ASSERT_FALSE(std::isnan(got[i])) << i;
    }
}

void check(const Case& c, std::initializer_list<int> clusters = {2, 4}) {
    ShrinkCall call(c);
    const std::vector<float> expected = call.run(1);
    for (const int cluster : clusters) {
        SCOPED_TRACE("T " + std::to_string(c.T) + ", depth " + std::to_string(c.depth) + ", " +
                     std::to_string(c.first) + " + " + std::to_string(c.second) + " columns, clusters of " +
                     std::to_string(cluster));
        expect_same_bits(call.run(cluster), expected);
    }
}

TEST(ClusterShrink, GivesTheBitsOfTheOrdinaryKernel) {
    check({256, 64, 64, 64});
    // Fewer tokens than a cluster has, an odd depth, lines that end within a tile and a box.
    check({129, 200, 40, 33});
    check({300, 72, 48, 0});
    // More stages than the pipeline has, in several splits, the last one shorter.
    check({130, 64 * 9 - 5, 64, 0, 2});
    // Two tiles of columns; the second matrix begins in the first.
    check({130, 65, 104, 60});
}

TEST(ClusterShrink, TakesColumnsAsLines) {
    check({200, 330, 64, 0, 2, true});
    check({130, 70, 40, 0, 1, true});
}

TEST(ClusterShrink, TakesPartsWithTokensOfTheirOwn) {
    check({130, 130, 64, 40, 2, false, true}, {2});
}

TEST(ClusterShrink, TakesF16) {
    Case c{130, 130, 64, 64, 1};
    c.dtype = MOEK_DTYPE_F16;
    check(c, {2});
    c = {130, 130, 64, 0, 1, true};
    c.dtype = MOEK_DTYPE_F16;
    check(c, {2});
}

#if !defined(__SANITIZE_THREAD__)  // the cases above and planted bugs are what it has time for
TEST(ClusterShrink, DoesNotDependOnTheSchedule) {
    ShrinkCall call({260, 64 * 7, 64, 64});
    const std::vector<float> expected = call.run(1);
    for (unsigned seed = 1; seed <= 6; ++seed) {
        const Schedule schedule(seed, seed % 2 * 5);
        SCOPED_TRACE(seed);
        expect_same_bits(call.run(seed % 3 == 0 ? 2 : 4), expected);
    }
}
#endif

TEST(ClusterShrink, ReadsTheWeightsOnceForACluster) {
    const Case c{512, 256, 64, 64};
    ShrinkCall call(c);
    constexpr uint64_t kTokens = 512 * 256 * 2;
    constexpr uint64_t kWeights = 4 * 128 * 256 * 2;  // once for each of four tiles of tokens
    for (const int cluster : {2, 4}) {
        statistics() = {};
        EXPECT_FALSE(call.run(cluster).empty());
        EXPECT_EQ(statistics().tensor_bytes, kTokens + kWeights / static_cast<uint64_t>(cluster));
        EXPECT_EQ(statistics().bank_conflicts, 0u);
    }
}

// Whatever tensor copies cannot bring is left to the ordinary kernel: nothing is launched.
TEST(ClusterShrink, LeavesWhatItCannotBring) {
    const auto takes = [](const Case& c, auto change) {
        ShrinkCall call(c);
        change(call.shrink);
        statistics() = {};
        const bool taken = !call.run(2).empty();
        EXPECT_EQ(statistics().launches, taken ? 1u : 0u);
        return taken;
    };
    const Case c{130, 64, 64, 0};
    EXPECT_TRUE(takes(c, [](auto&) {}));
    EXPECT_FALSE(takes(c, [](auto& shrink) { shrink.types.weight_dtype = MOEK_DTYPE_F32; }));
    EXPECT_FALSE(takes(c, [](auto& shrink) { shrink.part[0].tokens.dropout = cuda::make_dropout(0.5, 1, 0, 0); }));
    EXPECT_FALSE(takes(c, [](auto& shrink) { shrink.part[0].tokens.stride = 65; }));
    EXPECT_FALSE(takes(c, [](auto& shrink) { shrink.part[0].weights.stride[0] = 65; }));
    const auto shift = [](const void*& data) { data = static_cast<const uint16_t*>(data) + 1; };
    EXPECT_FALSE(takes(c, [&](auto& shrink) { shift(shrink.part[0].tokens.data); }));
    EXPECT_FALSE(takes(c, [&](auto& shrink) { shift(shrink.part[0].weights.data[0]); }));
    EXPECT_FALSE(takes({130, 64, 40, 40}, [&](auto& shrink) { shift(shrink.part[0].weights.data[1]); }));
    // Two matrices that meet within eight lines, which are one unit of the swizzle.
    EXPECT_FALSE(takes({130, 64, 36, 36}, [](auto&) {}));
    // Columns as lines of more than 128 bytes.
    EXPECT_FALSE(takes({130, 64, 100, 0, 1, true}, [](auto&) {}));
}

}  // namespace
}  // namespace moek::emulation::test
