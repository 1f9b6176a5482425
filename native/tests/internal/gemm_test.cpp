#include "cpu/common/gemm.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/dtype.hpp"
#include "cpu/common/gemm_pairs.hpp"
#include "tests/support/random.hpp"
#include "tests/support/tensor.hpp"

namespace moek::cpu {

namespace emulated_pairs {
GemmFunctions gemm_pairs_functions();
}

namespace {

using test::Random;
using test::Tensor;

// Behind the instruction sets: products of pairs, with the instruction for them emulated.
constexpr int32_t kEmulatedPairs = 100;

std::vector<int32_t> isas() {
    std::vector<int32_t> result;
    for (int32_t isa = MOEK_ISA_SCALAR; isa <= MOEK_ISA_AVX512_BF16; ++isa) {
        try {
            resolve_isa(isa);
            result.push_back(isa);
        } catch (const std::exception&) {
        }
    }
    return result;
}

// Threads and an instruction set to compute with.
struct Machine {
    Machine(int32_t threads, int32_t isa)
        : context(threads, isa == kEmulatedPairs ? MOEK_ISA_SCALAR : isa), emulates_pairs(isa == kEmulatedPairs) {}

    Context context;
    bool emulates_pairs;
};

struct Dtypes {
    int32_t a, b, c;
};

struct Shape {
    int64_t M, N, K;
};

// A product with everything that can vary, and the tensors behind it.
struct Case {
    Shape shape;
    Dtypes dtypes;
    bool a_along_depth, b_along_depth, row_major, accumulate;
    int64_t padding;  // added to every dense stride
    double alpha = 1;
    int64_t split = INT64_MAX;

    std::string text() const {
        return "M " + std::to_string(shape.M) + " N " + std::to_string(shape.N) + " K " + std::to_string(shape.K) +
               " dtypes " + dtype_name(dtypes.a) + " " + dtype_name(dtypes.b) + " " + dtype_name(dtypes.c) +
               " a_along_depth " + std::to_string(a_along_depth) + " b_along_depth " + std::to_string(b_along_depth) +
               " row_major " + std::to_string(row_major) + " accumulate " + std::to_string(accumulate) + " padding " +
               std::to_string(padding) + " alpha " + std::to_string(alpha) + " split " + std::to_string(split);
    }
};

Tensor make_matrix(int32_t dtype, int64_t rows, int64_t columns, bool row_major, int64_t padding,
                   const std::vector<double>& values) {
    Tensor tensor(dtype, row_major ? rows : columns, row_major ? columns : rows,
                  (row_major ? columns : rows) + padding);
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
            const double value = values[static_cast<size_t>(i * columns + j)];
            row_major ? tensor.set(i, j, value) : tensor.set(j, i, value);
        }
    }
    return tensor;
}

double matrix_at(const Tensor& tensor, bool row_major, int64_t i, int64_t j) {
    return row_major ? tensor.at(i, j) : tensor.at(j, i);
}

void run(Machine& machine, const Gemm& gemm) {
    Context& context = machine.context;
    const int64_t slot = gemm_scratch_bytes(context, gemm.f64);
    std::vector<unsigned char> memory(ScratchSlots::bytes(context.pool.thread_count(), slot), 0xFF);
    ScratchSlots scratch(memory.data(), context.pool.thread_count(), slot);
    if (machine.emulates_pairs && gemm_fits_pairs(gemm)) {
        run_gemm(context, gemm, scratch, emulated_pairs::gemm_pairs_functions());
    } else {
        run_gemm(context, gemm, scratch);
    }
}

// Runs the product and returns C. `a` [M, K], `b` [K, N] and `c` [M, N] hold values before rounding to the dtypes.
Tensor run_case(const Case& given, Machine& machine, const std::vector<double>& a_values,
                const std::vector<double>& b_values, const std::vector<double>& c_values, Tensor* out_a = nullptr,
                Tensor* out_b = nullptr) {
    const auto [M, N, K] = given.shape;
    const Tensor a = make_matrix(given.dtypes.a, M, K, given.a_along_depth, given.padding, a_values);
    const Tensor b = make_matrix(given.dtypes.b, K, N, !given.b_along_depth, given.padding, b_values);
    Tensor c = make_matrix(given.dtypes.c, M, N, given.row_major, given.padding, c_values);
    if (!given.accumulate) c.fill(std::numeric_limits<double>::quiet_NaN());
    Gemm gemm;
    gemm.M = M;
    gemm.N = N;
    gemm.K = K;
    gemm.alpha = given.alpha;
    gemm.f64 = given.dtypes.a == MOEK_DTYPE_F64;
    gemm.a = {a.data(), given.dtypes.a, a.stride(), given.a_along_depth};
    gemm.b = {b.data(), given.dtypes.b, b.stride(), given.b_along_depth};
    if (given.split < N) {
        gemm.b.split = given.split;
        gemm.b.tail = static_cast<const char*>(b.data()) +
                      static_cast<size_t>(given.split * b.stride()) * dtype_size(given.dtypes.b);
        gemm.b.tail_stride = b.stride();
    }
    gemm.c = {c.data(), given.dtypes.c, c.stride(), given.row_major, given.accumulate};
    run(machine, gemm);
    // A B that is packed once for all tasks changes no bit.
    Tensor shared = make_matrix(given.dtypes.c, M, N, given.row_major, given.padding, c_values);
    if (!given.accumulate) shared.fill(std::numeric_limits<double>::quiet_NaN());
    test::GuardedBytes packed(gemm_packed_bytes(gemm.f64, N, K));
    gemm.c.data = shared.data();
    gemm.packed = packed.data();
    run(machine, gemm);
    EXPECT_TRUE(shared.same_bits(c)) << given.text();
    if (out_a != nullptr) *out_a = a;
    if (out_b != nullptr) *out_b = b;
    return c;
}

void expect_product(const Case& given, Machine& machine, Random& random) {
    SCOPED_TRACE(given.text() + " isa " + std::to_string(machine.context.isa) +
                 (machine.emulates_pairs ? " with emulated pairs" : ""));
    const auto [M, N, K] = given.shape;
    const std::vector<double> c_values = random.normals(M * N);
    Tensor a, b;
    const Tensor c = run_case(given, machine, random.normals(M * K), random.normals(K * N), c_values, &a, &b);
    // K products and sums in the accumulator type, one rounding of the result.
    const double sum_epsilon = test::epsilon(accumulator_dtype(given.dtypes.a));
    const Tensor old = make_matrix(given.dtypes.c, M, N, given.row_major, given.padding, c_values);
    for (int64_t i = 0; i < M; ++i) {
        for (int64_t j = 0; j < N; ++j) {
            double sum = 0, magnitude = 0;
            for (int64_t k = 0; k < K; ++k) {
                const double product =
                    matrix_at(a, given.a_along_depth, i, k) * matrix_at(b, !given.b_along_depth, k, j);
                sum += product;
                magnitude += std::fabs(product);
            }
            double expected = given.alpha * sum;
            if (given.accumulate) expected += matrix_at(old, given.row_major, i, j);
            const double tolerance = sum_epsilon * (std::sqrt(static_cast<double>(K)) + 4) * magnitude +
                                     sum_epsilon * std::fabs(expected) +
                                     test::epsilon(given.dtypes.c) * std::fabs(expected) / 2 + 0x1p-24;
            const double got = matrix_at(c, given.row_major, i, j);
            ASSERT_LE(std::fabs(got - expected), tolerance)
                << "at [" << i << ", " << j << "]: got " << got << ", expected " << expected;
        }
    }
}

std::vector<Shape> edge_shapes() {
    return {{1, 1, 1},
            {1, 64, 300},
            {3, 5, 7},
            {13, 33, 64},
            {14, 32, 256},
            {15, 31, 257},
            {16, 64, 40},
            {29, 17, 513},
            {33, 130, 65},
            {270, 70, 9},
            {5, 300, 12},
            {40, 1, 130},
            // One of each form, with the other operand across: few columns, few rows, little
            // depth, and just too much of each.
            {300, 16, 513},
            {70, 24, 300},
            {129, 32, 256},
            {65, 7, 2100},
            {300, 33, 70},
            {16, 300, 513},
            {32, 257, 300},
            {1, 70, 40},
            {33, 300, 70},
            {8, 16, 700},
            {50, 300, 16},
            {64, 1100, 64},
            {29, 90, 1},
            {90, 515, 65}};
}

class GemmOnIsa : public testing::TestWithParam<int32_t> {
  protected:
    Machine machine_{3, GetParam()};
    Random random_;
};

TEST_P(GemmOnIsa, EveryLayoutAndEdge) {
    const Dtypes dtypes = {MOEK_DTYPE_F32, MOEK_DTYPE_F32, MOEK_DTYPE_F32};
    for (const Shape& shape : edge_shapes()) {
        for (int layout = 0; layout < 16; ++layout) {
            Case given = {shape, dtypes, (layout & 1) != 0, (layout & 2) != 0, (layout & 4) != 0, (layout & 8) != 0, 0};
            given.padding = layout % 3;
            expect_product(given, machine_, random_);
        }
    }
}

TEST_P(GemmOnIsa, EveryDtype) {
    std::vector<Dtypes> all;
    for (int32_t a : {MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F16}) {
        for (int32_t b : {MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F16}) {
            for (int32_t c : {MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F16}) all.push_back({a, b, c});
        }
    }
    all.push_back({MOEK_DTYPE_F64, MOEK_DTYPE_F64, MOEK_DTYPE_F64});
    for (const Dtypes& dtypes : all) {
        for (const Shape& shape : {Shape{31, 45, 70}, Shape{45, 16, 70}, Shape{45, 83, 21}}) {
            for (int layout = 0; layout < 16; ++layout) {
                const Case given = {
                    shape, dtypes, (layout & 1) != 0, (layout & 2) != 0, (layout & 4) != 0, (layout & 8) != 0, 1};
                expect_product(given, machine_, random_);
            }
        }
    }
}

TEST_P(GemmOnIsa, Alpha) {
    for (const double alpha : {2.0, -0.3, 0.0}) {
        for (const bool accumulate : {false, true}) {
            for (const int32_t dtype : {MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F64}) {
                for (const Shape& shape : {Shape{17, 40, 30}, Shape{60, 16, 300}, Shape{40, 64, 300}}) {
                    expect_product({shape, {dtype, dtype, dtype}, true, true, true, accumulate, 0, alpha}, machine_,
                                   random_);
                }
                expect_product({{16, 96, 300}, {dtype, dtype, dtype}, false, false, true, accumulate, 0, alpha},
                               machine_, random_);
            }
        }
    }
}

TEST_P(GemmOnIsa, StackedOperand) {
    for (const int64_t split : {1, 32, 40, 63}) {
        for (const int64_t M : {3, 50}) {
            const Dtypes dtypes = {MOEK_DTYPE_BF16, MOEK_DTYPE_F32, MOEK_DTYPE_F32};
            expect_product({{M, 64, 300}, dtypes, true, true, true, false, 2, 1, split}, machine_, random_);
            // A router beside A: few columns.
            expect_product({{M, 24, 300}, dtypes, true, true, true, false, 2, 1, split / 3}, machine_, random_);
            expect_product({{M, 70, 40}, dtypes, true, true, true, false, 2, 1, split}, machine_, random_);
        }
    }
}

TEST_P(GemmOnIsa, NoDepthIsZero) {
    const Dtypes dtypes = {MOEK_DTYPE_F32, MOEK_DTYPE_F32, MOEK_DTYPE_F32};
    expect_product({{20, 40, 0}, dtypes, true, false, true, false, 0}, machine_, random_);
    expect_product({{20, 40, 0}, dtypes, true, false, true, true, 0}, machine_, random_);
}

TEST_P(GemmOnIsa, ThreadsChangeNoBit) {
    for (const Shape& shape :
         {Shape{600, 64, 300}, Shape{64, 600, 700}, Shape{600, 600, 64}, Shape{600, 16, 700}, Shape{16, 600, 700}}) {
        for (int layout = 0; layout < 4; ++layout) {
            const Case given = {shape,
                                {MOEK_DTYPE_F32, MOEK_DTYPE_F32, MOEK_DTYPE_F32},
                                (layout & 1) != 0,
                                (layout & 2) != 0,
                                true,
                                true,
                                0};
            const std::vector<double> a = random_.normals(shape.M * shape.K);
            const std::vector<double> b = random_.normals(shape.K * shape.N);
            const std::vector<double> c = random_.normals(shape.M * shape.N);
            Machine one(1, GetParam());
            const Tensor expected = run_case(given, one, a, b, c);
            for (int32_t threads : {2, 3, 8}) {
                Machine several(threads, GetParam());
                EXPECT_TRUE(run_case(given, several, a, b, c).same_bits(expected)) << given.text() << " " << threads;
            }
        }
    }
}

// A row gives the same bits alone, among others, at any place, and whichever operand fills the registers.
TEST_P(GemmOnIsa, NeighboursChangeNoBit) {
    struct Size {
        int64_t N, K;
    };
    for (const auto [N, K] : {Size{80, 600}, Size{16, 600}, Size{24, 300}, Size{80, 24}}) {
        const std::vector<double> row = random_.normals(K);
        const std::vector<double> b = random_.normals(K * N);
        for (const int32_t dtype : {MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F64}) {
            for (const int layout : {0, 1, 2, 3}) {
                const bool accumulate = (layout & 2) != 0;
                Case given = {{1, N, K}, {dtype, dtype, dtype}, true, (layout & 1) != 0, true, accumulate, 0, 1.7};
                const std::vector<double> c_row = random_.normals(N);
                const Tensor expected = run_case(given, machine_, row, b, c_row);
                for (const int64_t M : {2, 15, 16, 33, 300}) {
                    given.shape.M = M;
                    for (const int64_t place : {int64_t{0}, M / 2, M - 1}) {
                        std::vector<double> a = random_.normals(M * K);
                        std::vector<double> c = random_.normals(M * N);
                        std::copy(row.begin(), row.end(), a.begin() + place * K);
                        std::copy(c_row.begin(), c_row.end(), c.begin() + place * N);
                        const Tensor got = run_case(given, machine_, a, b, c);
                        for (int64_t j = 0; j < N; ++j) {
                            ASSERT_EQ(got.at(place, j), expected.at(0, j)) << given.text() << " place " << place;
                        }
                    }
                }
            }
        }
    }
}

// A column, which in a gradient belongs to an input, has the bits that it has among others; and a row those that it has
// where more rows make it another form of product.
TEST_P(GemmOnIsa, GradientsDoNotDependOnTheirShape) {
    const int64_t K = 600;
    for (const int32_t dtype : {MOEK_DTYPE_F32, MOEK_DTYPE_BF16}) {
        const Case whole = {{40, 300, K}, {dtype, dtype, MOEK_DTYPE_F32}, false, false, true, false, 0, 0.7};
        const std::vector<double> a = random_.normals(40 * K), b = random_.normals(K * 300);
        const Tensor expected = run_case(whole, machine_, a, b, random_.normals(40 * 300));
        for (const auto& [M, N] : {std::pair<int64_t, int64_t>{16, 300}, {5, 17}, {32, 40}, {40, 9}, {1, 1}}) {
            Case part = whole;
            part.shape = {M, N, K};
            std::vector<double> part_b(static_cast<size_t>(K * N));
            for (int64_t k = 0; k < K; ++k) std::copy_n(b.begin() + k * 300, N, part_b.begin() + k * N);
            const std::vector<double> part_a(a.begin(), a.begin() + M * K);
            for (const bool row_major : {false, true}) {
                part.row_major = row_major;
                const Tensor got = run_case(part, machine_, part_a, part_b, random_.normals(M * N));
                for (int64_t i = 0; i < M; ++i) {
                    for (int64_t j = 0; j < N; ++j) {
                        ASSERT_EQ(matrix_at(got, row_major, i, j), expected.at(i, j)) << part.text();
                    }
                }
            }
        }
    }
}

TEST_P(GemmOnIsa, HooksSeeEveryElementOnce) {
    // Factors that tell an element's place; applied to x on its way in, and to the result on its way out.
    const auto apply = [](const void*, int64_t outer, int64_t first, int64_t count, void* values) {
        for (int64_t i = 0; i < count; ++i) {
            static_cast<double*>(values)[i] *= static_cast<double>(1 + outer % 7 + 10 * ((first + i) % 11));
        }
    };
    const auto factor = [](int64_t outer, int64_t inner) {
        return static_cast<double>(1 + outer % 7 + 10 * (inner % 11));
    };
    for (const Shape& shape : {Shape{40, 70, 300}, Shape{5, 70, 20}, Shape{1, 1, 1}, Shape{50, 8, 300},
                               Shape{20, 70, 300}, Shape{50, 90, 20}}) {
        const auto [M, N, K] = shape;
        const std::vector<double> a = random_.normals(M * K), b = random_.normals(K * N), c = random_.normals(M * N);
        for (int layout = 0; layout < 8; ++layout) {
            const bool a_along = (layout & 1) != 0, b_along = (layout & 2) != 0, row_major = (layout & 4) != 0;
            const Tensor a_tensor = make_matrix(MOEK_DTYPE_F64, M, K, a_along, 0, a);
            const Tensor b_tensor = make_matrix(MOEK_DTYPE_F64, K, N, !b_along, 0, b);
            for (int hooked = 0; hooked < 3; ++hooked) {
                Tensor result(MOEK_DTYPE_F64, row_major ? M : N, row_major ? N : M);
                Gemm gemm;
                gemm.M = M;
                gemm.N = N;
                gemm.K = K;
                gemm.f64 = true;
                gemm.a = {a_tensor.data(), MOEK_DTYPE_F64, a_tensor.stride(), a_along};
                gemm.b = {b_tensor.data(), MOEK_DTYPE_F64, b_tensor.stride(), b_along};
                gemm.c = {result.data(), MOEK_DTYPE_F64, result.stride(), row_major};
                (hooked == 0 ? gemm.a.hook : hooked == 1 ? gemm.b.hook : gemm.c.hook) = {apply, nullptr};
                run(machine_, gemm);
                for (int64_t i = 0; i < M; ++i) {
                    for (int64_t j = 0; j < N; ++j) {
                        double sum = 0;
                        for (int64_t k = 0; k < K; ++k) {
                            double in = 1;
                            if (hooked == 0) in = a_along ? factor(i, k) : factor(k, i);
                            if (hooked == 1) in = b_along ? factor(j, k) : factor(k, j);
                            sum += in * matrix_at(a_tensor, a_along, i, k) * matrix_at(b_tensor, !b_along, k, j);
                        }
                        if (hooked == 2) sum *= row_major ? factor(i, j) : factor(j, i);
                        const double got = matrix_at(result, row_major, i, j);
                        ASSERT_NEAR(got, sum, 1e-8 * (1 + std::fabs(sum))) << "hook " << hooked << " layout " << layout;
                    }
                }
            }
        }
    }
}

// Products of two bf16 matrices, which one instruction set multiplies by pairs; on the others they are as good as any.
class Bf16GemmOnIsa : public GemmOnIsa {
  protected:
    static constexpr Dtypes kDtypes = {MOEK_DTYPE_BF16, MOEK_DTYPE_BF16, MOEK_DTYPE_F32};
};

TEST_P(Bf16GemmOnIsa, EveryLayoutAndEdge) {
    for (const Shape& shape : edge_shapes()) {
        for (int layout = 0; layout < 8; ++layout) {
            Case given = {shape, kDtypes, true, (layout & 1) != 0, (layout & 2) != 0, (layout & 4) != 0, 0};
            given.padding = layout % 3;
            expect_product(given, machine_, random_);
        }
    }
}

TEST_P(Bf16GemmOnIsa, ScalesAndRounds) {
    for (const int32_t c : {MOEK_DTYPE_F32, MOEK_DTYPE_BF16, MOEK_DTYPE_F16}) {
        for (const bool accumulate : {false, true}) {
            for (const Shape& shape : {Shape{17, 40, 31}, Shape{60, 16, 300}, Shape{40, 64, 600}}) {
                const Dtypes dtypes = {MOEK_DTYPE_BF16, MOEK_DTYPE_BF16, c};
                expect_product({shape, dtypes, true, true, true, accumulate, 0, -0.3}, machine_, random_);
                expect_product({shape, dtypes, true, false, false, accumulate, 1, 2.0}, machine_, random_);
            }
        }
    }
}

TEST_P(Bf16GemmOnIsa, StackedOperand) {
    for (const int64_t split : {1, 32, 40, 63}) {
        for (const int64_t M : {3, 50}) {
            expect_product({{M, 64, 301}, kDtypes, true, true, true, false, 2, 1, split}, machine_, random_);
        }
    }
}

TEST_P(Bf16GemmOnIsa, ThreadsAndNeighboursChangeNoBit) {
    const int64_t N = 80, K = 601;
    const std::vector<double> a = random_.normals(280 * K), b = random_.normals(K * N), c = random_.normals(280 * N);
    for (const bool b_along_depth : {false, true}) {
        Case given = {{280, N, K}, kDtypes, true, b_along_depth, true, true, 0, 1.7};
        const Tensor expected = run_case(given, machine_, a, b, c);
        for (const int32_t threads : {1, 2, 8}) {
            Machine other(threads, GetParam());
            EXPECT_TRUE(run_case(given, other, a, b, c).same_bits(expected)) << given.text() << " " << threads;
        }
        for (const int64_t M : {1, 2, 15, 33, 260}) {
            given.shape.M = M;
            const Tensor got = run_case(given, machine_, a, b, c);
            for (int64_t i = 0; i < M; ++i) {
                for (int64_t j = 0; j < N; ++j) ASSERT_EQ(got.at(i, j), expected.at(i, j)) << given.text();
            }
        }
    }
}

// The second step of the last pair is beyond the end: whatever lies there, and whatever the first step is, counts nothing.
TEST_P(Bf16GemmOnIsa, NanSpreadsToItsRowAndColumnOnly) {
    const int64_t M = 20, N = 40, K = 33;
    std::vector<double> a = random_.normals(M * K), b = random_.normals(K * N);
    a[3 * K + K - 1] = std::numeric_limits<double>::quiet_NaN();
    b[5 * N + 7] = std::numeric_limits<double>::infinity();
    const Tensor got = run_case({{M, N, K}, kDtypes, true, true, true, false, 3}, machine_, a, b,
                                std::vector<double>(static_cast<size_t>(M * N)));
    for (int64_t i = 0; i < M; ++i) {
        for (int64_t j = 0; j < N; ++j) {
            EXPECT_EQ(std::isfinite(got.at(i, j)), i != 3 && j != 7) << i << " " << j;
        }
    }
}

std::vector<int32_t> isas_and_pairs() {
    std::vector<int32_t> result = isas();
    result.push_back(kEmulatedPairs);
    return result;
}

INSTANTIATE_TEST_SUITE_P(, Bf16GemmOnIsa, testing::ValuesIn(isas_and_pairs()),
                         [](const auto& test) { return "isa" + std::to_string(test.param); });
INSTANTIATE_TEST_SUITE_P(, GemmOnIsa, testing::ValuesIn(isas()),
                         [](const auto& test) { return "isa" + std::to_string(test.param); });

TEST(ScratchSlots, LeasesAreAlignedDisjointAndReused) {
    std::vector<unsigned char> memory(ScratchSlots::bytes(2, 100) + 1);
    ScratchSlots slots(memory.data() + 1, 2, 100);
    void* first;
    {
        const ScratchSlots::Lease a(slots);
        const ScratchSlots::Lease b(slots);
        first = a.data();
        for (void* data : {a.data(), b.data()}) {
            EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % ScratchSlots::kAlignment, 0u);
            EXPECT_GE(static_cast<unsigned char*>(data), memory.data() + 1);
            EXPECT_LE(static_cast<unsigned char*>(data) + 100, memory.data() + memory.size());
        }
        EXPECT_GE(static_cast<unsigned char*>(b.data()) - static_cast<unsigned char*>(a.data()), 100);
    }
    const ScratchSlots::Lease again(slots);
    EXPECT_EQ(again.data(), first);
}

}  // namespace
}  // namespace moek::cpu
