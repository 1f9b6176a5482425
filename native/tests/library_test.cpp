// The functions that belong to no op: version, build information, status names, struct layouts.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "moekernels.h"
#include "tests/support/context.hpp"

namespace moek::test {
namespace {

TEST(Library, AbiVersionIsTheHeaders) {
    EXPECT_EQ(moek_abi_version(), MOEK_ABI_VERSION);
}

TEST(Library, BuildInfoHasEveryKeyOnce) {
    std::istringstream lines(moek_build_info());
    std::multiset<std::string> keys;
    for (std::string line; std::getline(lines, line);) {
        const size_t equals = line.find('=');
        ASSERT_NE(equals, std::string::npos) << line;
        keys.insert(line.substr(0, equals));
    }
    EXPECT_EQ(keys, (std::multiset<std::string>{"version", "commit", "compiler", "build", "isa", "sm"}));
}

TEST(Library, StatusNamesAreDistinct) {
    std::set<std::string> names;
    for (int32_t status = MOEK_STATUS_CODE_OK; status <= MOEK_STATUS_CODE_INTERNAL; ++status) {
        names.insert(moek_status_name(status));
    }
    EXPECT_EQ(names.size(), 9u);
    EXPECT_EQ(names.count("unknown status"), 0u);
    EXPECT_STREQ(moek_status_name(-1), "unknown status");
    EXPECT_STREQ(moek_status_name(MOEK_STATUS_CODE_INTERNAL + 1), "unknown status");
}

// The structs of the header's text with the names of their fields.
std::map<std::string, std::vector<std::string>> structs_of_header() {
    std::ifstream file(MOEK_HEADER_PATH);
    EXPECT_TRUE(file) << MOEK_HEADER_PATH;
    std::stringstream buffer;
    buffer << file.rdbuf();
    std::string text = buffer.str();
    for (size_t start; (start = text.find("/*")) != std::string::npos;) {
        text.erase(start, text.find("*/", start) + 2 - start);
    }
    std::map<std::string, std::vector<std::string>> structs;
    const std::regex declaration(R"(typedef struct (moek_\w+) \{([^}]*)\} (moek_\w+);)");
    const std::regex field(R"((\w+)\s*(\[\w+\])?\s*;)");
    for (std::sregex_iterator it(text.begin(), text.end(), declaration), end; it != end; ++it) {
        EXPECT_EQ((*it)[1], (*it)[3]);
        const std::string body = (*it)[2];
        auto& fields = structs[(*it)[1]];
        for (std::sregex_iterator f(body.begin(), body.end(), field); f != end; ++f) fields.push_back((*f)[1]);
    }
    return structs;
}

TEST(StructLayout, KnowsEveryStructAndFieldOfTheHeaderInOrder) {
    const auto structs = structs_of_header();
    EXPECT_GE(structs.size(), 8u);
    for (const auto& [name, fields] : structs) {
        SCOPED_TRACE(name);
        uint64_t offset = 1;
        uint64_t struct_size = 0;
        ASSERT_EQ(moek_struct_layout(name.c_str(), nullptr, &offset, &struct_size), MOEK_STATUS_CODE_OK);
        EXPECT_EQ(offset, 0u);
        // Fields follow each other without padding: explicit reserved fields fill the gaps.
        uint64_t end = 0;
        for (const std::string& field : fields) {
            uint64_t size = 0;
            ASSERT_EQ(moek_struct_layout(name.c_str(), field.c_str(), &offset, &size), MOEK_STATUS_CODE_OK) << field;
            EXPECT_EQ(offset, end) << field;
            end = offset + size;
        }
        EXPECT_EQ(end, struct_size);
    }
}

TEST(StructLayout, EmptyFieldNameMeansTheStruct) {
    uint64_t offset = 1;
    uint64_t size = 0;
    EXPECT_EQ(moek_struct_layout("moek_gate_args", "", &offset, &size), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(offset, 0u);
    EXPECT_EQ(size, sizeof(moek_gate_args));
}

TEST(StructLayout, BadArguments) {
    uint64_t offset = 0;
    uint64_t size = 0;
    const auto bad = MOEK_STATUS_CODE_INVALID_ARGUMENT;
    MOEK_EXPECT_ERROR(moek_struct_layout(nullptr, "T", &offset, &size), bad, "struct_name: got null");
    MOEK_EXPECT_ERROR(moek_struct_layout("moek_nothing", "T", &offset, &size), bad, "struct_name: got moek_nothing");
    MOEK_EXPECT_ERROR(moek_struct_layout("moek_gate_args", "q", &offset, &size), bad, "field_name: got q");
    MOEK_EXPECT_ERROR(moek_struct_layout("moek_gate_args", "T", nullptr, &size), bad, "out_offset: got null");
    MOEK_EXPECT_ERROR(moek_struct_layout("moek_gate_args", "T", &offset, nullptr), bad, "out_size: got null");
}

TEST(LastError, NamesTheFunctionAndIsCutToTheBuffer) {
    uint64_t ignored = 0;
    moek_struct_layout(nullptr, nullptr, &ignored, &ignored);
    EXPECT_EQ(last_error(), "moek_struct_layout: struct_name: got null, expected a pointer");

    char buffer[8];
    std::memset(buffer, 'x', sizeof(buffer));
    EXPECT_EQ(moek_last_error(buffer, 5), MOEK_STATUS_CODE_OK);
    EXPECT_STREQ(buffer, "moek");
    EXPECT_EQ(buffer[5], 'x');
    EXPECT_EQ(moek_last_error(buffer, 1), MOEK_STATUS_CODE_OK);
    EXPECT_STREQ(buffer, "");
}

TEST(LastError, IsCutAtACharactersBoundary) {
    uint64_t ignored = 0;
    // The prefix and "got " take 36 bytes; the two-byte characters start there.
    moek_struct_layout("\xC3\xA9\xC3\xA9", nullptr, &ignored, &ignored);
    const std::string whole = last_error();
    const size_t start = whole.find("\xC3\xA9");
    ASSERT_NE(start, std::string::npos);
    std::vector<char> buffer(whole.size() + 1);
    // Room for one byte of the first character: it must be left out whole.
    EXPECT_EQ(moek_last_error(buffer.data(), start + 2), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(std::string(buffer.data()), whole.substr(0, start));
    EXPECT_EQ(moek_last_error(buffer.data(), start + 3), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(std::string(buffer.data()), whole.substr(0, start + 2));
}

TEST(LastError, SurvivesABadQueryAndIsPerThread) {
    uint64_t ignored = 0;
    moek_struct_layout(nullptr, nullptr, &ignored, &ignored);
    const std::string before = last_error();
    char buffer[4];
    EXPECT_EQ(moek_last_error(nullptr, 4), MOEK_STATUS_CODE_INVALID_ARGUMENT);
    EXPECT_EQ(moek_last_error(buffer, 0), MOEK_STATUS_CODE_INVALID_ARGUMENT);
    EXPECT_EQ(last_error(), before);
    std::thread([] { EXPECT_EQ(last_error(), ""); }).join();
}

}  // namespace
}  // namespace moek::test
