// The comparison of a device's results with a file.
#include "tests/conformance/record.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

namespace moek::conformance {
namespace {

Record record_of(uint32_t word, float value) {
    Record record;
    record.bits("words", {1, 2, word});
    std::vector<uint32_t> many(600, 5);
    many[300] = word;
    record.folded("many", many);
    record.near("floats", {1, value, NAN}, {0.5, 0.5, 0.5});
    return record;
}

// The report on a device that returned other numbers than those in the file.
std::string differences(uint32_t word, float value, int expected) {
    std::stringstream file, report;
    record_of(7, 2).write(file, "a device");
    EXPECT_EQ(record_of(word, value).compare(file, report), expected) << report.str();
    return report.str();
}

TEST(ConformanceRecord, AgreesWithItself) {
    EXPECT_EQ(differences(7, 2, 0), "");
}

TEST(ConformanceRecord, FloatsMayDifferByTheirTolerance) {
    EXPECT_EQ(differences(7, 2.5f, 0), "");
    EXPECT_NE(differences(7, 2.75f, 1).find("floats: 1 of 3 words differ, the first is word 1"), std::string::npos);
    EXPECT_NE(differences(7, NAN, 1).find("floats"), std::string::npos);
    EXPECT_NE(differences(7, INFINITY, 1).find("floats"), std::string::npos);
}

TEST(ConformanceRecord, BitsMayNotDiffer) {
    const std::string text = differences(8, 2, 2);
    EXPECT_NE(text.find("words: 1 of 3 words differ, the first is word 2: here 00000008"), std::string::npos) << text;
    EXPECT_NE(text.find("many: 1 of 3 words differ, the first is word 1"), std::string::npos) << text;
}

TEST(ConformanceRecord, CasesMayNotBeMissing) {
    std::stringstream file, report;
    record_of(7, 2).write(file, "a device");
    Record other;
    other.bits("words", {1, 2, 7});
    other.bits("new", {1});
    EXPECT_EQ(other.compare(file, report), 3);
    EXPECT_NE(report.str().find("new: the file has 0 words, expected 1"), std::string::npos) << report.str();
    EXPECT_NE(report.str().find("floats: only the file has this case"), std::string::npos) << report.str();
}

TEST(ConformanceRecord, OtherFilesAreRefused) {
    for (const char* text : {"", "moekernels conformance 2\n", "moekernels conformance 1\nwords\n",
                             "moekernels conformance 1\ncase words 3\n00000001 00000002\n"}) {
        std::stringstream file(text), report;
        EXPECT_EQ(record_of(7, 2).compare(file, report), 1) << text;
        EXPECT_EQ(report.str().find("the file cannot be read: "), 0u) << report.str();
    }
}

}  // namespace
}  // namespace moek::conformance
