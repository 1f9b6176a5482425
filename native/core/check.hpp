// Checks of arguments. Every check names the argument, what was got and what was expected, and throws
// INVALID_ARGUMENT. All checks of a call run before anything is written.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "core/dtype.hpp"
#include "core/error.hpp"
#include "moekernels.h"

namespace moek {

[[noreturn]] void fail_argument(const std::string& argument, const std::string& got, const std::string& expected);

std::string to_text(double value);

void check_not_null(const char* argument, const void* pointer);
// `why` completes "expected null ...", for example "with MOEK_BIAS_MODE_NONE".
void check_null(const char* argument, const void* pointer, const char* why);
void check_range(const char* argument, int64_t value, int64_t least, int64_t most);
// An enum value: 0 .. count - 1. `type` is the enum's name.
void check_enum(const char* argument, int32_t value, int32_t count, const char* type);
// One of a few values of an enum.
void check_enum_among(const char* argument, int32_t value, std::initializer_list<int32_t> legal, const char* names);
// Only known bits of moek_call_flag.
void check_call_flags(uint32_t flags);
void check_zero(const char* argument, int64_t value);
template <size_t N>
void check_reserved(const uint64_t (&reserved)[N]) {
    for (uint64_t word : reserved) {
        if (word != 0) fail_argument("reserved", std::to_string(word), "0");
    }
}
void check_finite(const char* argument, double value);
// Finite and >= 0.
void check_not_negative(const char* argument, double value);
// 0 <= p < 1.
void check_probability(const char* argument, double value);
// Replaces 0 by 1; the value must then be finite and > 0.
void resolve_temperature(double* temperature);
// Replaces 0 by `columns`; a smaller stride is an error.
void resolve_stride(const char* argument, int64_t* stride, int64_t columns);

// The legal combinations of the header's table.
struct DtypeRoles {
    int32_t x;
    int32_t weight;
    int32_t router;
    int32_t y;
    int32_t grad;
};
void check_dtypes(const DtypeRoles& roles);

// Null where the stream must be null is the backend's business; the workspace is the same for all.
void check_workspace(const void* workspace, uint64_t workspace_bytes, uint64_t needed);

// Reads a struct of any version: a shorter one is completed with zeros, the unknown tail of a longer one must be zero.
void copy_struct(const char* argument, const void* given, void* out, uint32_t size);
template <class Struct>
Struct read_struct(const char* argument, const Struct* given) {
    Struct result;
    copy_struct(argument, given, &result, static_cast<uint32_t>(sizeof(Struct)));
    return result;
}

// Writes a struct of any version: a shorter one gets its part, the unknown tail of a longer one is set to zero.
void write_struct_bytes(const char* argument, const void* filled, void* out, uint32_t size);
template <class Struct>
void write_struct(const char* argument, const Struct& filled, Struct* out) {
    write_struct_bytes(argument, &filled, out, static_cast<uint32_t>(sizeof(Struct)));
}

// The tensors of one call. Adding one checks that it is there, aligned, and that its size can be addressed;
// `check_overlaps` then checks that no output shares a byte with another tensor.
class Tensors {
  public:
    // A tensor [rows, columns] whose rows are `stride` elements apart. Required unless it has no elements.
    void input(const char* name, const void* data, int64_t rows, int64_t columns, int64_t stride, size_t element_size);
    void output(const char* name, const void* data, int64_t rows, int64_t columns, int64_t stride, size_t element_size);
    // The same, but null is legal.
    void optional_input(const char* name, const void* data, int64_t rows, int64_t columns, int64_t stride,
                        size_t element_size);
    void optional_output(const char* name, const void* data, int64_t rows, int64_t columns, int64_t stride,
                         size_t element_size);
    // Scratch memory counts as an output, without alignment.
    void workspace(const void* data, uint64_t bytes);

    void check_overlaps() const;

  private:
    struct Region {
        const char* name;
        uintptr_t start;
        uint64_t rows;
        uint64_t row_bytes;
        uint64_t stride_bytes;
        bool is_output;

        uintptr_t end() const { return start + (rows - 1) * stride_bytes + row_bytes; }
    };

    void add(const char* name, const void* data, int64_t rows, int64_t columns, int64_t stride, size_t element_size,
             bool is_output);
    static bool overlap(const Region& a, const Region& b);

    std::vector<Region> regions_;
};

}  // namespace moek
