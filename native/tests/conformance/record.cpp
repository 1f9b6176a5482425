#include "tests/conformance/record.hpp"

#include <cmath>
#include <cstring>
#include <iomanip>
#include <istream>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace moek::conformance {
namespace {

constexpr const char* kFirstLine = "moekernels conformance 1";
constexpr size_t kFold = 256;

float as_float(uint32_t word) {
    float value;
    std::memcpy(&value, &word, sizeof(value));
    return value;
}

bool agree(uint32_t a, uint32_t b, double tolerance) {
    const double x = as_float(a);
    const double y = as_float(b);
    if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && std::isnan(y);
    return x == y || std::fabs(x - y) <= tolerance;
}

std::string hexadecimal(uint32_t word) {
    std::ostringstream text;
    text << std::hex << std::setw(8) << std::setfill('0') << word;
    return text.str();
}

// The cases of a file by name.
std::map<std::string, std::vector<uint32_t>> read(std::istream& in) {
    std::map<std::string, std::vector<uint32_t>> cases;
    std::string line;
    if (!std::getline(in, line) || line != kFirstLine) {
        throw std::runtime_error("the first line is '" + line + "', expected '" + kFirstLine + "'");
    }
    while (std::getline(in, line)) {
        if (line.empty() || line[0] == '#') continue;
        std::istringstream head(line);
        std::string keyword, name;
        size_t count = 0;
        if (!(head >> keyword >> name >> count) || keyword != "case")
            throw std::runtime_error("'" + line + "' is no case");
        std::vector<uint32_t>& words = cases[name];
        while (words.size() < count) {
            uint32_t word = 0;
            if (!(in >> std::hex >> word)) throw std::runtime_error("the case " + name + " ends early");
            words.push_back(word);
        }
        in >> std::ws >> std::dec;
    }
    return cases;
}

}  // namespace

void Record::bits(const std::string& name, std::vector<uint32_t> words) {
    cases_.push_back({name, std::move(words), {}});
}

void Record::folded(const std::string& name, const std::vector<uint32_t>& words) {
    std::vector<uint32_t> hashes;
    for (size_t first = 0; first < words.size(); first += kFold) {
        uint32_t hash = 2166136261u;  // FNV-1a, by words
        for (size_t i = first; i < first + kFold && i < words.size(); ++i) {
            hash = (hash ^ words[i]) * 16777619u;
            hash ^= hash >> 15;
        }
        hashes.push_back(hash);
    }
    bits(name, std::move(hashes));
}

void Record::near(const std::string& name, const std::vector<float>& values, std::vector<double> tolerance) {
    std::vector<uint32_t> words(values.size());
    std::memcpy(words.data(), values.data(), 4 * values.size());
    cases_.push_back({name, std::move(words), std::move(tolerance)});
}

void Record::write(std::ostream& out, const std::string& device) const {
    out << kFirstLine << "\n# " << device << "\n";
    for (const Case& one : cases_) {
        out << "case " << one.name << " " << one.words.size() << "\n";
        for (size_t i = 0; i < one.words.size(); ++i) {
            out << hexadecimal(one.words[i]) << (i % 8 == 7 || i + 1 == one.words.size() ? "\n" : " ");
        }
    }
}

int Record::compare(std::istream& in, std::ostream& report) const {
    std::map<std::string, std::vector<uint32_t>> golden;
    try {
        golden = read(in);
    } catch (const std::runtime_error& error) {
        report << "the file cannot be read: " << error.what() << "\n";
        return 1;
    }
    int failures = 0;
    for (const Case& one : cases_) {
        const auto found = golden.find(one.name);
        if (found == golden.end() || found->second.size() != one.words.size()) {
            report << one.name << ": the file has " << (found == golden.end() ? 0 : found->second.size())
                   << " words, expected " << one.words.size() << "\n";
            ++failures;
            continue;
        }
        size_t different = 0;
        size_t first = 0;
        for (size_t i = one.words.size(); i-- > 0;) {
            const uint32_t theirs = found->second[i];
            const bool same =
                one.tolerance.empty() ? one.words[i] == theirs : agree(one.words[i], theirs, one.tolerance[i]);
            if (same) continue;
            ++different;
            first = i;
        }
        golden.erase(found->first);
        if (different == 0) continue;
        ++failures;
        report << one.name << ": " << different << " of " << one.words.size() << " words differ, the first is word "
               << first << ": here " << hexadecimal(one.words[first]);
        if (!one.tolerance.empty())
            report << " (" << as_float(one.words[first]) << " +- " << one.tolerance[first] << ")";
        report << "\n";
    }
    for (const auto& [name, words] : golden) {
        bool known = false;
        for (const Case& one : cases_) known = known || one.name == name;
        if (known) continue;
        report << name << ": only the file has this case\n";
        ++failures;
    }
    return failures;
}

}  // namespace moek::conformance
