// The op `dropout`: the mask as moek_dropout_args states it, written out here a second time.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/support/bad_arguments.hpp"
#include "tests/support/context.hpp"
#include "tests/support/tensor.hpp"

namespace moek::test {
namespace {

struct MaskOptions {
    double p = 0.3;
    uint64_t seed = 0x0123456789ABCDEF;
    uint64_t offset = 0xFEDCBA9876543210;
    int32_t stream = MOEK_DROPOUT_STREAM_INPUT;
    int32_t dtype = finest_dtype();
    int64_t gap = 0;
};

Tensor mask(int64_t T, int64_t d, const MaskOptions& options, int32_t threads = 2) {
    Tensor result(options.dtype, T, d, d + options.gap);
    moek_dropout_args args = {};
    args.struct_size = sizeof(args);
    args.T = T;
    args.d = d;
    args.mask_stride = options.gap == 0 ? 0 : result.stride();
    args.p = options.p;
    args.seed = options.seed;
    args.offset = options.offset;
    args.stream = options.stream;
    args.mask_dtype = options.dtype;
    args.mask = result.data();
    EXPECT_EQ(moek_dropout_mask(Context(threads), &args, nullptr), MOEK_STATUS_CODE_OK) << last_error();
    wait_for_device();
    return result;
}

// Philox4x32-10 in 64-bit arithmetic, from the paper's definition.
std::vector<uint64_t> philox(std::vector<uint64_t> c, uint64_t k0, uint64_t k1) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = c[0] * 0xD2511F53ull, b = c[2] * 0xCD9E8D57ull;
        c = {(b >> 32) ^ c[1] ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k1, a & 0xFFFFFFFF};
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF;
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF;
    }
    return c;
}

double expected_factor(uint64_t element, const MaskOptions& options) {
    const uint64_t low = 0xFFFFFFFF;
    const std::vector<uint64_t> words = philox(
        {(element / 4) & low, (element / 4) >> 32, options.offset & low, options.offset >> 32}, options.seed & low,
        (options.seed >> 32) ^ ((uint64_t{0x9E3779B9} * static_cast<uint64_t>(options.stream)) & low));
    const double uniform = static_cast<double>(words[element % 4] >> 8) / 16777216.0;
    return uniform >= options.p ? 1 / (1 - options.p) : 0;
}

TEST(Dropout, MaskIsTheDocumentedFunctionOfItsElement) {
    for (int32_t stream : {MOEK_DROPOUT_STREAM_INPUT, MOEK_DROPOUT_STREAM_CORE}) {
        for (int32_t dtype : on_this_device({MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F16, MOEK_DTYPE_F64})) {
            for (int64_t d : {1, 2, 3, 5, 255, 256, 257, 1001}) {
                MaskOptions options;
                options.stream = stream;
                options.dtype = dtype;
                options.gap = d % 2 == 0 ? 0 : 3;
                const Tensor got = mask(3, d, options);
                Tensor expected(dtype, 3, d);
                for (int64_t i = 0; i < 3 * d; ++i) {
                    expected.set(i / d, i % d, expected_factor(static_cast<uint64_t>(i), options));
                }
                ASSERT_EQ(got.values(), expected.values()) << "d " << d << " dtype " << dtype << " stream " << stream;
            }
        }
    }
}

TEST(Dropout, KeepsTheRightShareAndMean) {
    const int64_t T = 500, d = 400;
    for (double p : {0.1, 0.5, 0.9}) {
        MaskOptions options;
        options.p = p;
        double sum = 0;
        int64_t dropped = 0;
        for (double factor : mask(T, d, options).values()) {
            sum += factor;
            dropped += factor == 0;
        }
        const double n = static_cast<double>(T * d);
        // Five standard deviations.
        EXPECT_NEAR(static_cast<double>(dropped) / n, p, 5 * std::sqrt(p * (1 - p) / n));
        EXPECT_NEAR(sum / n, 1, 5 * std::sqrt(p / (1 - p) / n));
    }
}

TEST(Dropout, SeedOffsetAndStreamGiveIndependentMasks) {
    const MaskOptions base;
    const Tensor first = mask(100, 100, base);
    for (int change = 0; change < 3; ++change) {
        MaskOptions options = base;
        if (change == 0) options.seed += uint64_t{1} << 40;
        if (change == 1) options.offset += 1;
        if (change == 2) options.stream = MOEK_DROPOUT_STREAM_CORE;
        const Tensor other = mask(100, 100, options);
        int64_t both = 0;
        for (int64_t i = 0; i < 10000; ++i) both += first.at(i / 100, i % 100) == 0 && other.at(i / 100, i % 100) == 0;
        EXPECT_NEAR(static_cast<double>(both) / 10000, 0.09, 5 * std::sqrt(0.09 * 0.91 / 10000)) << change;
    }
}

TEST(Dropout, ProbabilityZeroKeepsEverything) {
    MaskOptions options;
    options.p = 0;
    EXPECT_EQ(mask(3, 7, options).values(), std::vector<double>(21, 1.0));
}

TEST(Dropout, SameBitsForEveryThreadCount) {
    const Tensor first = mask(301, 77, {}, 1);
    for (int32_t threads : {2, 3, 8}) EXPECT_TRUE(mask(301, 77, {}, threads).same_bits(first));
}

TEST(Dropout, NoRowsIsLegal) {
    moek_dropout_args args = {};
    args.struct_size = sizeof(args);
    args.d = 4;
    EXPECT_EQ(moek_dropout_mask(Context(), &args, nullptr), MOEK_STATUS_CODE_OK) << last_error();
}

TEST(DropoutArguments, Rejected) {
    const Context context;
    Tensor target(MOEK_DTYPE_F32, 2, 4);
    moek_dropout_args good = {};
    good.struct_size = sizeof(good);
    good.T = 2;
    good.d = 4;
    good.p = 0.5;
    good.mask = target.data();
    const int64_t huge = std::numeric_limits<int64_t>::max();
    expect_all_rejected<moek_dropout_args>(
        good,
        std::vector<BadArgument<moek_dropout_args>>{
            {"struct_size", [](auto& a) { a.struct_size = 0; }, "args->struct_size: got 0"},
            {"flags", [](auto& a) { a.flags = 2; }, "flags: got 2"},
            {"T", [](auto& a) { a.T = -2; }, "T: got -2, expected >= 0"},
            {"T too large", [=](auto& a) { a.T = huge; }, "mask: got a tensor"},
            {"d", [](auto& a) { a.d = 0; }, "d: got 0, expected >= 1"},
            {"d too large", [=](auto& a) { a.d = huge; }, "mask: got a tensor"},
            {"mask_stride", [](auto& a) { a.mask_stride = 3; }, "mask_stride: got 3"},
            {"p < 0", [](auto& a) { a.p = -0.1; }, "p: got -0.1"},
            {"p 1", [](auto& a) { a.p = 1; }, "p: got 1, expected 0 <= p < 1"},
            {"p NaN", [](auto& a) { a.p = std::nan(""); }, "p: got nan"},
            {"stream", [](auto& a) { a.stream = 2; }, "stream: got 2"},
            {"mask_dtype", [](auto& a) { a.mask_dtype = 4; }, "mask_dtype: got 4"},
            {"mask", [](auto& a) { a.mask = nullptr; }, "mask: got null"},
            {"mask misaligned", [](auto& a) { a.mask = static_cast<char*>(a.mask) + 2; }, "mask: got 0x"},
            {"reserved", [](auto& a) { a.reserved[3] = 1; }, "reserved: got 1"},
        },
        [&](const moek_dropout_args& args) { return moek_dropout_mask(context, &args, nullptr); },
        [&] { return std::isnan(target.at(0, 0)); });
    const auto bad = MOEK_STATUS_CODE_INVALID_ARGUMENT;
    int dummy = 0;
    MOEK_EXPECT_ERROR(moek_dropout_mask(nullptr, &good, nullptr), bad, "context: got null");
    MOEK_EXPECT_ERROR(moek_dropout_mask(context, nullptr, nullptr), bad, "args: got null");
    if (!on_cuda()) {
        MOEK_EXPECT_ERROR(moek_dropout_mask(context, &good, &dummy), bad, "stream: got 0x");
    }
}

}  // namespace
}  // namespace moek::test
