#include "core/check.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace moek {
namespace {

constexpr uint32_t kKnownCallFlags = MOEK_CALL_FLAG_ACCUMULATE_OUTPUT | MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS |
                                     MOEK_CALL_FLAG_ACCUMULATE_COUNTS | MOEK_CALL_FLAG_BATCH_INVARIANT |
                                     MOEK_CALL_FLAG_STRICT | MOEK_CALL_FLAG_ALLOW_TF32;

// No struct of this ABI comes near this size; a larger struct_size is an uninitialised one, and its tail is not read.
constexpr uint32_t kLargestStruct = 1u << 16;

std::string pointer_text(const void* pointer) {
    if (pointer == nullptr) return "null";
    char text[32];
    std::snprintf(text, sizeof(text), "%p", pointer);
    return text;
}

uint32_t given_struct_size(const char* argument, const void* given, uint32_t size) {
    check_not_null(argument, given);
    uint32_t given_size;
    std::memcpy(&given_size, given, sizeof(given_size));
    if (given_size < sizeof(given_size) || given_size > kLargestStruct) {
        fail_argument(std::string(argument) + "->struct_size", std::to_string(given_size),
                      "the struct's size, " + std::to_string(size) + " in this version");
    }
    return given_size;
}

// rows, columns and stride are not negative. False when the product cannot be addressed.
bool region_bytes(uint64_t rows, uint64_t columns, uint64_t stride, uint64_t element_size, uint64_t* out_bytes) {
    constexpr uint64_t most = static_cast<uint64_t>(std::numeric_limits<ptrdiff_t>::max());
    if (columns > most / element_size || stride > most / element_size) return false;
    const uint64_t row_bytes = columns * element_size;
    const uint64_t stride_bytes = stride * element_size;
    if (stride_bytes != 0 && rows - 1 > (most - row_bytes) / stride_bytes) return false;
    *out_bytes = (rows - 1) * stride_bytes + row_bytes;
    return true;
}

}  // namespace

void fail_argument(const std::string& argument, const std::string& got, const std::string& expected) {
    throw Error(MOEK_STATUS_CODE_INVALID_ARGUMENT, argument + ": got " + got + ", expected " + expected);
}

std::string to_text(double value) {
    char text[40];
    std::snprintf(text, sizeof(text), "%.17g", value);
    return text;
}

void check_not_null(const char* argument, const void* pointer) {
    if (pointer == nullptr) fail_argument(argument, "null", "a pointer");
}

void check_null(const char* argument, const void* pointer, const char* why) {
    if (pointer != nullptr) fail_argument(argument, pointer_text(pointer), std::string("null ") + why);
}

void check_range(const char* argument, int64_t value, int64_t least, int64_t most) {
    if (value >= least && value <= most) return;
    fail_argument(argument, std::to_string(value),
                  most == std::numeric_limits<int64_t>::max() ? ">= " + std::to_string(least)
                                                              : std::to_string(least) + ".." + std::to_string(most));
}

void check_enum(const char* argument, int32_t value, int32_t count, const char* type) {
    if (value >= 0 && value < count) return;
    fail_argument(argument, std::to_string(value),
                  std::string("a value of ") + type + ", 0.." + std::to_string(count - 1));
}

void check_enum_among(const char* argument, int32_t value, std::initializer_list<int32_t> legal, const char* names) {
    if (std::find(legal.begin(), legal.end(), value) == legal.end()) {
        fail_argument(argument, std::to_string(value), names);
    }
}

void check_call_flags(uint32_t flags) {
    if ((flags & ~kKnownCallFlags) != 0) {
        fail_argument("flags", std::to_string(flags),
                      "bits of moek_call_flag, at most " + std::to_string(kKnownCallFlags));
    }
}

void check_zero(const char* argument, int64_t value) {
    if (value != 0) fail_argument(argument, std::to_string(value), "0");
}

void check_finite(const char* argument, double value) {
    if (!std::isfinite(value)) fail_argument(argument, to_text(value), "a finite value");
}

void check_not_negative(const char* argument, double value) {
    if (!std::isfinite(value) || value < 0) fail_argument(argument, to_text(value), "a finite value >= 0");
}

void check_probability(const char* argument, double value) {
    if (!(value >= 0 && value < 1)) fail_argument(argument, to_text(value), "0 <= p < 1");
}

void resolve_temperature(double* temperature) {
    if (*temperature == 0) *temperature = 1;
    if (!std::isfinite(*temperature) || *temperature < 0) {
        fail_argument("temperature", to_text(*temperature), "a finite value > 0, or 0 for 1");
    }
}

void resolve_stride(const char* argument, int64_t* stride, int64_t columns) {
    if (*stride == 0) *stride = columns;
    if (*stride < columns) {
        fail_argument(argument, std::to_string(*stride),
                      "at least the " + std::to_string(columns) + " columns, or 0 for dense rows");
    }
}

void check_dtypes(const DtypeRoles& roles) {
    const struct {
        const char* name;
        int32_t value;
    } fields[] = {{"x_dtype", roles.x},
                  {"weight_dtype", roles.weight},
                  {"router_dtype", roles.router},
                  {"y_dtype", roles.y},
                  {"grad_dtype", roles.grad}};
    for (const auto& field : fields) check_enum(field.name, field.value, 4, "moek_dtype");

    const bool uniform =
        roles.weight == roles.x && roles.router == roles.x && roles.y == roles.x && roles.grad == roles.x;
    const bool is_16_bit = roles.x == MOEK_DTYPE_BF16 || roles.x == MOEK_DTYPE_F16;
    const bool mixed = is_16_bit && roles.y == roles.x && roles.weight == MOEK_DTYPE_F32 &&
                       roles.router == MOEK_DTYPE_F32 && roles.grad == MOEK_DTYPE_F32;
    if (uniform || mixed) return;
    std::string got = "(";
    for (const auto& field : fields) got += std::string(got.size() == 1 ? "" : ", ") + dtype_name(field.value);
    fail_argument("x_dtype, weight_dtype, router_dtype, y_dtype, grad_dtype", got + ")",
                  "one dtype for all, or (bf16, f32, f32, bf16, f32), or (f16, f32, f32, f16, f32)");
}

void check_workspace(const void* workspace, uint64_t workspace_bytes, uint64_t needed) {
    if (needed == 0) return;
    if (workspace == nullptr) {
        fail_argument("workspace", "null", "a pointer to " + std::to_string(needed) + " bytes");
    }
    if (workspace_bytes < needed) {
        throw Error(MOEK_STATUS_CODE_WORKSPACE_TOO_SMALL, "workspace_bytes: got " + std::to_string(workspace_bytes) +
                                                              ", expected at least " + std::to_string(needed));
    }
}

void copy_struct(const char* argument, const void* given, void* out, uint32_t size) {
    const uint32_t given_size = given_struct_size(argument, given, size);
    const auto* bytes = static_cast<const unsigned char*>(given);
    for (uint32_t i = size; i < given_size; ++i) {
        if (bytes[i] != 0) {
            fail_argument(std::string(argument) + ", byte " + std::to_string(i), std::to_string(bytes[i]),
                          "0: this version knows " + std::to_string(size) + " bytes");
        }
    }
    std::memset(out, 0, size);
    std::memcpy(out, given, std::min(size, given_size));
    std::memcpy(out, &size, sizeof(size));
}

void write_struct_bytes(const char* argument, const void* filled, void* out, uint32_t size) {
    const uint32_t given_size = given_struct_size(argument, out, size);
    auto* bytes = static_cast<unsigned char*>(out);
    const uint32_t known = std::min(size, given_size);
    std::memcpy(bytes + sizeof(given_size), static_cast<const unsigned char*>(filled) + sizeof(given_size),
                known - sizeof(given_size));
    std::memset(bytes + known, 0, given_size - known);
}

void Tensors::input(const char* name, const void* data, int64_t rows, int64_t columns, int64_t stride,
                    size_t element_size) {
    if (rows != 0 && columns != 0) check_not_null(name, data);
    add(name, data, rows, columns, stride, element_size, false);
}

void Tensors::output(const char* name, const void* data, int64_t rows, int64_t columns, int64_t stride,
                     size_t element_size) {
    if (rows != 0 && columns != 0) check_not_null(name, data);
    add(name, data, rows, columns, stride, element_size, true);
}

void Tensors::optional_input(const char* name, const void* data, int64_t rows, int64_t columns, int64_t stride,
                             size_t element_size) {
    add(name, data, rows, columns, stride, element_size, false);
}

void Tensors::optional_output(const char* name, const void* data, int64_t rows, int64_t columns, int64_t stride,
                              size_t element_size) {
    add(name, data, rows, columns, stride, element_size, true);
}

void Tensors::workspace(const void* data, uint64_t bytes) {
    add("workspace", data, 1, static_cast<int64_t>(bytes), static_cast<int64_t>(bytes), 1, true);
}

void Tensors::add(const char* name, const void* data, int64_t rows, int64_t columns, int64_t stride,
                  size_t element_size, bool is_output) {
    if (rows == 0 || columns == 0) return;
    const auto start = reinterpret_cast<uintptr_t>(data);
    const uint64_t row_count = static_cast<uint64_t>(rows);
    const uint64_t column_count = static_cast<uint64_t>(columns);
    uint64_t bytes = 0;
    if (!region_bytes(row_count, column_count, static_cast<uint64_t>(stride), element_size, &bytes) ||
        bytes > std::numeric_limits<uintptr_t>::max() - start) {
        fail_argument(name,
                      "a tensor [" + std::to_string(rows) + ", " + std::to_string(columns) + "] with row stride " +
                          std::to_string(stride),
                      "one that fits in the address space");
    }
    if (data == nullptr) return;
    if (start % element_size != 0) {
        fail_argument(name, pointer_text(data),
                      "an address aligned to its elements of " + std::to_string(element_size) + " bytes");
    }
    regions_.push_back(
        {name, start, row_count, column_count * element_size, static_cast<uint64_t>(stride) * element_size, is_output});
}

bool Tensors::overlap(const Region& a, const Region& b) {
    if (a.end() <= b.start || b.end() <= a.start) return false;
    // The bounding ranges meet, but strided rows may interleave, such as two column slices of one matrix. Walk the
    // rows of the one with fewer and look for a row of the other that each meets.
    const Region& few = a.rows <= b.rows ? a : b;
    const Region& many = a.rows <= b.rows ? b : a;
    for (uint64_t row = 0; row < few.rows; ++row) {
        const uintptr_t row_start = few.start + row * few.stride_bytes;
        const uintptr_t row_end = row_start + few.row_bytes;
        if (row_end <= many.start) continue;
        // The last row of `many` that starts before row_end.
        const uint64_t last = std::min((row_end - 1 - many.start) / many.stride_bytes, many.rows - 1);
        if (many.start + last * many.stride_bytes + many.row_bytes > row_start) return true;
    }
    return false;
}

void Tensors::check_overlaps() const {
    for (size_t i = 0; i < regions_.size(); ++i) {
        for (size_t j = i + 1; j < regions_.size(); ++j) {
            const Region& a = regions_[i];
            const Region& b = regions_[j];
            if (!a.is_output && !b.is_output) continue;
            if (!overlap(a, b)) continue;
            const Region& out = b.is_output ? b : a;
            const Region& other = b.is_output ? a : b;
            fail_argument(out.name, std::string("memory that overlaps ") + other.name, "memory of its own");
        }
    }
}

}  // namespace moek
