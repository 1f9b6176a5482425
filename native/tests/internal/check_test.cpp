// The parts of core/check.hpp that need more cases than the ops' tables give.
#include "core/check.hpp"

#include <gtest/gtest.h>

#include <set>

#include "tests/support/random.hpp"

namespace moek {
namespace {

bool overlaps(const char* a, int64_t a_rows, int64_t a_columns, int64_t a_stride, const char* b, int64_t b_rows,
              int64_t b_columns, int64_t b_stride) {
    Tensors tensors;
    tensors.input("a", a, a_rows, a_columns, a_stride, 1);
    tensors.output("b", b, b_rows, b_columns, b_stride, 1);
    try {
        tensors.check_overlaps();
        return false;
    } catch (const Error& error) {
        EXPECT_EQ(error.message(), "b: got memory that overlaps a, expected memory of its own");
        return true;
    }
}

TEST(Tensors, OverlapIsExactForStridedRows) {
    test::Random random;
    const std::vector<char> memory(512);
    int found = 0;
    for (int round = 0; round < 20000; ++round) {
        const int64_t a_columns = random.integer(1, 9), b_columns = random.integer(1, 9);
        const int64_t a_stride = a_columns + random.integer(0, 9), b_stride = b_columns + random.integer(0, 9);
        const int64_t a_rows = random.integer(1, 7), b_rows = random.integer(1, 7);
        const int64_t a_start = random.integer(0, 120), b_start = random.integer(0, 120);
        std::set<int64_t> bytes;
        for (int64_t row = 0; row < a_rows; ++row) {
            for (int64_t column = 0; column < a_columns; ++column) bytes.insert(a_start + row * a_stride + column);
        }
        bool expected = false;
        for (int64_t row = 0; row < b_rows; ++row) {
            for (int64_t column = 0; column < b_columns; ++column) {
                expected |= bytes.count(b_start + row * b_stride + column) != 0;
            }
        }
        found += expected;
        ASSERT_EQ(overlaps(memory.data() + a_start, a_rows, a_columns, a_stride, memory.data() + b_start, b_rows,
                           b_columns, b_stride),
                  expected)
            << round;
    }
    EXPECT_GT(found, 1000);
    EXPECT_LT(found, 19000);
}

TEST(Tensors, TwoInputsMayShareMemory) {
    const char byte = 0;
    Tensors tensors;
    tensors.input("a", &byte, 1, 1, 1, 1);
    tensors.input("b", &byte, 1, 1, 1, 1);
    EXPECT_NO_THROW(tensors.check_overlaps());
}

TEST(Tensors, EmptyAndMissingTensorsAreIgnored) {
    char byte = 0;
    Tensors tensors;
    tensors.output("a", &byte, 1, 1, 1, 1);
    tensors.output("empty", &byte, 0, 5, 5, 1);
    tensors.output("empty and null", nullptr, 0, 5, 5, 1);
    tensors.optional_output("missing", nullptr, 3, 5, 5, 1);
    tensors.workspace(&byte, 0);
    EXPECT_NO_THROW(tensors.check_overlaps());
}

TEST(Tensors, SizesThatCannotBeAddressedAreRejectedWithoutAPointerToo) {
    const int64_t huge = std::numeric_limits<int64_t>::max();
    Tensors tensors;
    EXPECT_THROW(tensors.optional_output("a", nullptr, huge, 1, 2, 8), Error);
    EXPECT_THROW(tensors.optional_output("a", nullptr, 2, huge, huge, 8), Error);
    EXPECT_THROW(tensors.optional_output("a", nullptr, 2, 1, huge, 1), Error);
    EXPECT_NO_THROW(tensors.optional_output("a", nullptr, 1, 1, 1, 8));
    EXPECT_THROW(tensors.output("a", reinterpret_cast<const void*>(~uintptr_t{0} - 7), 1, 2, 2, 8), Error);
}

TEST(Dtypes, TheTableOfLegalCombinations) {
    const int32_t f32 = MOEK_DTYPE_F32, bf16 = MOEK_DTYPE_BF16, f16 = MOEK_DTYPE_F16, f64 = MOEK_DTYPE_F64;
    const DtypeRoles table[] = {{f32, f32, f32, f32, f32}, {bf16, bf16, bf16, bf16, bf16}, {f16, f16, f16, f16, f16},
                                {f64, f64, f64, f64, f64}, {bf16, f32, f32, bf16, f32},    {f16, f32, f32, f16, f32}};
    int legal = 0;
    for (int code = 0; code < 1024; ++code) {
        const DtypeRoles roles = {code & 3, (code >> 2) & 3, (code >> 4) & 3, (code >> 6) & 3, (code >> 8) & 3};
        bool listed = false;
        for (const DtypeRoles& row : table) {
            listed |= row.x == roles.x && row.weight == roles.weight && row.router == roles.router &&
                      row.y == roles.y && row.grad == roles.grad;
        }
        legal += listed;
        if (listed) {
            EXPECT_NO_THROW(check_dtypes(roles)) << code;
        } else {
            EXPECT_THROW(check_dtypes(roles), Error) << code;
        }
    }
    EXPECT_EQ(legal, 6);
    EXPECT_THROW(check_dtypes({f32, f32, 4, f32, f32}), Error);
}

TEST(Guarded, TranslatesEveryKindOfException) {
    const auto status_of = [](auto&& body) { return guarded("f", body); };
    EXPECT_EQ(status_of([] {}), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(status_of([]() -> moek_status { return MOEK_STATUS_CODE_DEVICE; }), MOEK_STATUS_CODE_DEVICE);
    EXPECT_EQ(status_of([] { throw Error(MOEK_STATUS_CODE_NUMERIC, "text"); }), MOEK_STATUS_CODE_NUMERIC);
    EXPECT_STREQ(last_error(), "f: text");
    EXPECT_EQ(status_of([] { throw std::bad_alloc(); }), MOEK_STATUS_CODE_OUT_OF_MEMORY);
    EXPECT_EQ(status_of([] { throw std::runtime_error("odd"); }), MOEK_STATUS_CODE_INTERNAL);
    EXPECT_STREQ(last_error(), "f: odd");
    EXPECT_EQ(status_of([] { throw 1; }), MOEK_STATUS_CODE_INTERNAL);
    // A text longer than the buffer is cut.
    EXPECT_EQ(status_of([] { throw Error(MOEK_STATUS_CODE_INTERNAL, std::string(10000, 'x')); }),
              MOEK_STATUS_CODE_INTERNAL);
    EXPECT_EQ(std::string(last_error()).size(), 2047u);
}

}  // namespace
}  // namespace moek
