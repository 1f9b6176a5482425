// Philox4x32-10 against the known answers published with Random123.
#include "cpu/common/philox.hpp"

#include <gtest/gtest.h>

namespace moek::cpu {
namespace {

struct KnownAnswer {
    PhiloxBlock counter;
    uint32_t key0, key1;
    PhiloxBlock expected;
};

TEST(Philox, KnownAnswers) {
    const KnownAnswer answers[] = {
        {{{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
        {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
         0xffffffff,
         0xffffffff,
         {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
         0xa4093822,
         0x299f31d0,
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
    };
    for (const KnownAnswer& answer : answers) {
        const PhiloxBlock got = philox4x32_10(answer.counter, answer.key0, answer.key1);
        for (int i = 0; i < 4; ++i) EXPECT_EQ(got.word[i], answer.expected.word[i]) << i;
    }
}

TEST(Philox, FactorsDoNotDependOnWhereARangeStarts) {
    const Dropout dropout = {0.4, 1, 2, 0};
    double whole[64];
    dropout_factors(dropout, 0, 64, whole);
    for (uint64_t first = 0; first < 20; ++first) {
        double part[40];
        dropout_factors(dropout, first, 40, part);
        for (uint64_t i = 0; i < 40; ++i) ASSERT_EQ(part[i], whole[first + i]) << first << " " << i;
    }
}

TEST(Philox, TheElementIndexUsesAll64Bits) {
    const Dropout dropout = {0.5, 1, 2, 0};
    double low[256], high[256];
    dropout_factors(dropout, 0, 256, low);
    dropout_factors(dropout, uint64_t{1} << 34, 256, high);
    int equal = 0;
    for (int i = 0; i < 256; ++i) equal += low[i] == high[i];
    EXPECT_LT(equal, 200);
}

}  // namespace
}  // namespace moek::cpu
