// Typed test tensors made from doubles: guarded on both sides, with gaps between rows when the stride is larger than
// the row, and poisoned where a test expects the library to write.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.hpp"
#include "moekernels.h"
#include "tests/support/device.hpp"

namespace moek::test {

inline double read_element(const void* data, int32_t dtype, int64_t index) {
    switch (dtype) {
        case MOEK_DTYPE_F32:
            return static_cast<const float*>(data)[index];
        case MOEK_DTYPE_BF16:
            return to_float(static_cast<const bf16*>(data)[index]);
        case MOEK_DTYPE_F16:
            return to_float(static_cast<const f16*>(data)[index]);
        default:
            return static_cast<const double*>(data)[index];
    }
}

inline void write_element(void* data, int32_t dtype, int64_t index, double value) {
    switch (dtype) {
        case MOEK_DTYPE_F32:
            static_cast<float*>(data)[index] = static_cast<float>(value);
            break;
        case MOEK_DTYPE_BF16:
            static_cast<bf16*>(data)[index] = to_bf16(static_cast<float>(value));
            break;
        case MOEK_DTYPE_F16:
            static_cast<f16*>(data)[index] = to_f16(static_cast<float>(value));
            break;
        default:
            static_cast<double*>(data)[index] = value;
            break;
    }
}

// The distance between 1 and the next larger value of a dtype: half of it bounds a relative rounding error.
inline double epsilon(int32_t dtype) {
    switch (dtype) {
        case MOEK_DTYPE_F32:
            return 0x1p-23;
        case MOEK_DTYPE_BF16:
            return 0x1p-7;
        case MOEK_DTYPE_F16:
            return 0x1p-10;
        default:
            return 0x1p-52;
    }
}

// A block of memory between two guards. Its destructor fails the test when a guard was written to.
class GuardedBytes {
  public:
    explicit GuardedBytes(size_t size, unsigned char fill = 0xFF)
        : size_(size), bytes_(allocate_bytes(size + 2 * kGuard)) {
        // Not element by element: under sanitizers that took most of some tests' time.
        std::memset(bytes_.get(), kPattern, kGuard);
        std::memset(data(), fill, size_);
        std::memset(data() + size_, kPattern, kGuard);
    }
    GuardedBytes(const GuardedBytes& other) : size_(other.size_), bytes_(allocate_bytes(size_ + 2 * kGuard)) {
        std::memcpy(bytes_.get(), other.bytes_.get(), size_ + 2 * kGuard);
    }
    GuardedBytes& operator=(const GuardedBytes& other) {
        GuardedBytes copy(other);
        std::swap(size_, copy.size_);
        std::swap(bytes_, copy.bytes_);
        return *this;
    }
    ~GuardedBytes() { EXPECT_TRUE(intact()) << "a guard beside a buffer of " << size_ << " bytes was overwritten"; }

    unsigned char* data() { return bytes_.get() + kGuard; }
    const unsigned char* data() const { return bytes_.get() + kGuard; }
    size_t size() const { return size_; }
    bool intact() const {
        for (size_t i = 0; i < kGuard; ++i) {
            if (bytes_[i] != kPattern || bytes_[kGuard + size_ + i] != kPattern) return false;
        }
        return true;
    }

  private:
    static constexpr size_t kGuard = 128;
    static constexpr unsigned char kPattern = 0xA5;

    size_t size_;
    DeviceBytes bytes_;
};

// A matrix [rows, columns] of a dtype. Elements start as NaN (the poison), gaps between rows as a pattern that
// `gaps_intact` and the destructor check.
class Tensor {
  public:
    Tensor() : Tensor(MOEK_DTYPE_F32, 0, 0) {}
    Tensor(int32_t dtype, int64_t rows, int64_t columns, int64_t stride = 0)
        : dtype_(dtype),
          rows_(rows),
          columns_(columns),
          stride_(stride == 0 ? columns : stride),
          memory_(static_cast<size_t>(rows == 0 ? 0 : (rows - 1) * stride_ + columns) * dtype_size(dtype), kGap) {
        fill(std::numeric_limits<double>::quiet_NaN());
    }
    Tensor(int32_t dtype, int64_t rows, int64_t columns, const std::vector<double>& values, int64_t stride = 0)
        : Tensor(dtype, rows, columns, stride) {
        assign(values);
    }
    Tensor(const Tensor&) = default;
    Tensor& operator=(const Tensor&) = default;
    ~Tensor() { EXPECT_TRUE(gaps_intact()) << "a gap between rows was overwritten"; }

    void* data() { return memory_.data(); }
    const void* data() const { return memory_.data(); }
    int32_t dtype() const { return dtype_; }
    int64_t rows() const { return rows_; }
    int64_t columns() const { return columns_; }
    int64_t stride() const { return stride_; }

    double at(int64_t row, int64_t column) const { return read_element(data(), dtype_, row * stride_ + column); }
    void set(int64_t row, int64_t column, double value) {
        write_element(data(), dtype_, row * stride_ + column, value);
    }
    void fill(double value) {
        for (int64_t row = 0; row < rows_; ++row) {
            for (int64_t column = 0; column < columns_; ++column) set(row, column, value);
        }
    }
    // Rounds each value to the dtype.
    void assign(const std::vector<double>& values) {
        ASSERT_EQ(static_cast<int64_t>(values.size()), rows_ * columns_);
        for (int64_t row = 0; row < rows_; ++row) {
            for (int64_t column = 0; column < columns_; ++column) {
                set(row, column, values[static_cast<size_t>(row * columns_ + column)]);
            }
        }
    }
    // What the library sees: the values after rounding to the dtype.
    std::vector<double> values() const {
        std::vector<double> result;
        result.reserve(static_cast<size_t>(rows_ * columns_));
        for (int64_t row = 0; row < rows_; ++row) {
            for (int64_t column = 0; column < columns_; ++column) result.push_back(at(row, column));
        }
        return result;
    }
    bool same_bits(const Tensor& other) const {
        return memory_.size() == other.memory_.size() &&
               std::memcmp(memory_.data(), other.memory_.data(), memory_.size()) == 0;
    }
    bool gaps_intact() const {
        const size_t element = dtype_size(dtype_);
        for (int64_t row = 0; row + 1 < rows_; ++row) {
            const size_t start = static_cast<size_t>(row * stride_ + columns_) * element;
            const size_t end = static_cast<size_t>((row + 1) * stride_) * element;
            for (size_t i = start; i < end; ++i) {
                if (memory_.data()[i] != kGap) return false;
            }
        }
        return true;
    }

  private:
    static constexpr unsigned char kGap = 0x5C;

    int32_t dtype_;
    int64_t rows_;
    int64_t columns_;
    int64_t stride_;
    GuardedBytes memory_;
};

// A dense int32 matrix between guards, poisoned with a value that no id and no count has.
class IntTensor {
  public:
    static constexpr int32_t kPoison = -123456789;

    IntTensor() : IntTensor(0, 0) {}
    IntTensor(int64_t rows, int64_t columns)
        : rows_(rows), columns_(columns), memory_(static_cast<size_t>(rows * columns) * sizeof(int32_t)) {
        for (int64_t i = 0; i < rows * columns; ++i) data()[i] = kPoison;
    }
    IntTensor(int64_t rows, int64_t columns, const std::vector<int32_t>& values) : IntTensor(rows, columns) {
        EXPECT_EQ(static_cast<int64_t>(values.size()), rows * columns);
        std::copy(values.begin(), values.end(), data());
    }

    int32_t* data() { return reinterpret_cast<int32_t*>(memory_.data()); }
    const int32_t* data() const { return reinterpret_cast<const int32_t*>(memory_.data()); }
    int32_t at(int64_t row, int64_t column) const { return data()[row * columns_ + column]; }
    std::vector<int32_t> values() const { return std::vector<int32_t>(data(), data() + rows_ * columns_); }
    void fill(int32_t value) {
        for (int64_t i = 0; i < rows_ * columns_; ++i) data()[i] = value;
    }

  private:
    int64_t rows_;
    int64_t columns_;
    GuardedBytes memory_;
};

// A weight as the products of the device see it: f32 under 16-bit activations is rounded to their type for a tensor core.
inline std::vector<double> as_operand(const Tensor& weight, int32_t x_dtype) {
    if (operand_rounding(x_dtype) == 0 || weight.columns() == 0) return weight.values();
    return Tensor(x_dtype, weight.rows(), weight.columns(), weight.values()).values();
}

// x such that x times the mask is what a tensor core gets: the product rounded to x's type.
inline std::vector<double> as_dropped_operand(const Tensor& x, const std::vector<double>& mask) {
    std::vector<double> values = x.values();
    if (operand_rounding(x.dtype()) == 0 || mask.empty()) return values;
    for (size_t i = 0; i < values.size(); ++i) values[i] *= mask[i];
    const std::vector<double> rounded = Tensor(x.dtype(), x.rows(), x.columns(), values).values();
    for (size_t i = 0; i < values.size(); ++i) values[i] = mask[i] == 0 ? 0 : rounded[i] / mask[i];
    return values;
}

// Compares a tensor with doubles. The tolerance of an element is `absolute + relative * |expected|`; NaN equals NaN and
// an infinity equals itself only. Reports the first mismatch with its place, both values and the number of mismatches.
inline testing::AssertionResult near(const Tensor& got, const std::vector<double>& expected, double relative,
                                     double absolute) {
    if (static_cast<int64_t>(expected.size()) != got.rows() * got.columns()) {
        return testing::AssertionFailure() << "sizes differ: got " << got.rows() << " x " << got.columns()
                                           << ", expected " << expected.size() << " elements";
    }
    int64_t mismatches = 0;
    testing::Message first;
    for (int64_t row = 0; row < got.rows(); ++row) {
        for (int64_t column = 0; column < got.columns(); ++column) {
            const double a = got.at(row, column);
            const double b = expected[static_cast<size_t>(row * got.columns() + column)];
            if (a == b || (std::isnan(a) && std::isnan(b))) continue;
            const double tolerance = absolute + relative * std::fabs(b);
            if (std::isfinite(a) && std::isfinite(b) && std::fabs(a - b) <= tolerance) continue;
            if (mismatches++ == 0) {
                first << "first at [" << row << ", " << column << "]: got " << a << ", expected " << b
                      << ", difference " << std::fabs(a - b) << " > " << tolerance;
            }
        }
    }
    if (mismatches == 0) return testing::AssertionSuccess();
    return testing::AssertionFailure() << mismatches << " of " << expected.size() << " elements differ; "
                                       << first.GetString();
}

}  // namespace moek::test
