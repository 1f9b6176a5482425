#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

/// What the tests of both references need: random tensors, comparisons and finite differences in double.
namespace moek::reference::check {

using Vector = std::vector<double>;

class Random {
  public:
    explicit Random(unsigned seed) : engine_(seed) {}

    Vector normal(int64_t rows, int64_t columns) {
        Vector result(static_cast<size_t>(rows * columns));
        for (double& value : result) value = normal_(engine_);
        return result;
    }

    /// A dropout mask: 0, or 1 / (1 - p).
    Vector mask(int64_t rows, int64_t columns, double p) {
        Vector result(static_cast<size_t>(rows * columns));
        for (double& value : result) value = uniform_(engine_) < p ? 0.0 : 1 / (1 - p);
        return result;
    }

  private:
    std::mt19937 engine_;
    std::normal_distribution<double> normal_;
    std::uniform_real_distribution<double> uniform_;
};

inline double dot(const Vector& a, const Vector& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

inline void expect_near(const Vector& actual, const Vector& expected, double tolerance, const std::string& name) {
    ASSERT_EQ(actual.size(), expected.size()) << name;
    for (size_t i = 0; i < actual.size(); ++i) {
        EXPECT_NEAR(actual[i], expected[i], tolerance) << name << " at " << i;
    }
}

/// Compares a gradient with four-point differences of `loss` in the elements of `parameter`.
inline void expect_gradient(Vector& parameter, const Vector& gradient, const std::function<double()>& loss,
                            const std::string& name) {
    ASSERT_EQ(parameter.size(), gradient.size()) << name;
    constexpr double kStep = 2e-4;
    for (size_t i = 0; i < parameter.size(); ++i) {
        const double kept = parameter[i];
        const auto loss_at = [&](double offset) {
            parameter[i] = kept + offset;
            const double value = loss();
            parameter[i] = kept;
            return value;
        };
        const double near = loss_at(kStep) - loss_at(-kStep);
        const double far = loss_at(2 * kStep) - loss_at(-2 * kStep);
        const double expected = (8 * near - far) / (12 * kStep);
        EXPECT_NEAR(gradient[i], expected, 1e-9 * (1 + std::fabs(expected))) << name << " at " << i;
    }
}

}  // namespace moek::reference::check
