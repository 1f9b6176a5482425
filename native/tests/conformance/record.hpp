// Results of the device, written to a file or compared with one.
//
// The file is text. Its first line is "moekernels conformance 1"; lines that begin with # are comments. Then, for each case:
//   case NAME COUNT
//   COUNT words of 32 bits in hexadecimal, eight a line, the bits of what the device returned
// Inputs are not in it: the program makes the same ones everywhere. Long results are folded, see `folded`.
#pragma once

#include <cstdint>
#include <map>
#include <ostream>
#include <string>
#include <vector>

namespace moek::conformance {

class Record {
  public:
    // Results of which every bit counts.
    void bits(const std::string& name, std::vector<uint32_t> words);

    // The same for very many: what is kept is one hash of each 256 words.
    void folded(const std::string& name, const std::vector<uint32_t>& words);

    // Floats that may differ from those of another device by `tolerance` each, in absolute terms. Infinities have to agree,
    // and a NaN with a NaN.
    void near(const std::string& name, const std::vector<float>& values, std::vector<double> tolerance);

    void write(std::ostream& out, const std::string& device) const;

    // Compares with a file that `write` made elsewhere, and tells of every case that differs. Returns their number.
    int compare(std::istream& in, std::ostream& report) const;

  private:
    struct Case {
        std::string name;
        std::vector<uint32_t> words;
        std::vector<double> tolerance;  // empty: every bit counts
    };

    std::vector<Case> cases_;
};

}  // namespace moek::conformance
