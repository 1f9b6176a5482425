// Runs the product of gemm.hpp on random data and compares it with double precision.
#pragma once

#include <cmath>
#include <random>

#include "emulation/conversion.hpp"
#include "emulation/tests/gemm.hpp"
#include "emulation/tests/support.hpp"

namespace moek::emulation::test {

// The number of elements that are wrong; -1 when the launch failed.
template <GemmBug kBug>
int wrong_elements(int m, int n, int k) {
    std::mt19937 engine(7);
    std::normal_distribution<float> normal;
    const auto random_matrix = [&](int rows) {
        std::vector<cuda::bfloat16> matrix(static_cast<size_t>(rows) * static_cast<size_t>(k));
        for (cuda::bfloat16& element : matrix) element.bits = bf16_from_float(normal(engine));
        return matrix;
    };
    const std::vector<cuda::bfloat16> a = random_matrix(m);
    const std::vector<cuda::bfloat16> b = random_matrix(n);
    std::vector<float> c(static_cast<size_t>(m) * static_cast<size_t>(n), NAN);
    const dim3 grid(static_cast<unsigned>(n + kTile - 1) / kTile, static_cast<unsigned>(m + kTile - 1) / kTile);
    if (launch(gemm<kBug>, grid, kGemmThreads, kGemmShared, nullptr, a.data(), b.data(), c.data(), m, n, k) !=
        cudaSuccess) {
        return -1;
    }
    int wrong = 0;
    for (int row = 0; row < m; ++row) {
        for (int column = 0; column < n; ++column) {
            double sum = 0;
            double magnitude = 0;
            for (int i = 0; i < k; ++i) {
                const double product = static_cast<double>(cuda::to_float(a[static_cast<size_t>(row * k + i)])) *
                                       static_cast<double>(cuda::to_float(b[static_cast<size_t>(column * k + i)]));
                sum += product;
                magnitude += std::fabs(product);
            }
            const double got = c[static_cast<size_t>(row * n + column)];
            if (!(std::fabs(got - sum) <= 1e-6 * magnitude)) ++wrong;
        }
    }
    return wrong;
}

}  // namespace moek::emulation::test
