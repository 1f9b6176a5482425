// The packed GEMM at the shapes of LoRA: x W^T (reduction over d), h B^T and dU A (over the rank), dU^T x (over T).
//   moekernels_gemm_bench [--threads N] [--isa 1..5] [--blas LIBRARY]
#include <cstdio>

#include "blas.hpp"
#include "cpu/common/gemm.hpp"
#include "measure.hpp"

namespace {

using moek::bench::Timing;

struct Form {
    const char* name;
    bool transpose_a, transpose_b;
    int64_t M, N, K;
};

void run_form(moek::cpu::Context& context, const moek::bench::Blas& blas, const Form& form) {
    const auto [name, transpose_a, transpose_b, M, N, K] = form;
    const std::vector<float> a = moek::bench::random_matrix(M, K, 1);
    const std::vector<float> b = moek::bench::random_matrix(K, N, 2);
    std::vector<float> c(static_cast<size_t>(M * N));
    const int64_t lda = transpose_a ? M : K;
    const int64_t ldb = transpose_b ? K : N;
    moek::cpu::Gemm gemm;
    gemm.M = M;
    gemm.N = N;
    gemm.K = K;
    gemm.a = {a.data(), MOEK_DTYPE_F32, lda, !transpose_a};
    gemm.b = {b.data(), MOEK_DTYPE_F32, ldb, transpose_b};
    gemm.c = {c.data(), MOEK_DTYPE_F32, N};
    std::vector<unsigned char> packed(moek::cpu::gemm_packed_bytes(false, N, K) + moek::cpu::ScratchSlots::kAlignment);
    gemm.packed = packed.data() + moek::cpu::ScratchSlots::kAlignment -
                  reinterpret_cast<uintptr_t>(packed.data()) % moek::cpu::ScratchSlots::kAlignment;
    const int32_t threads = context.pool.thread_count();
    const int64_t slot = moek::cpu::gemm_scratch_bytes(context, false);
    std::vector<unsigned char> memory(moek::cpu::ScratchSlots::bytes(threads, slot));
    moek::cpu::ScratchSlots scratch(memory.data(), threads, slot);

    const double flops = 2.0 * static_cast<double>(M) * static_cast<double>(N) * static_cast<double>(K);
    const Timing ours = moek::bench::measure([&] { moek::cpu::run_gemm(context, gemm, scratch); });
    std::printf("%-10s %6lld %6lld %6lld  %9.4f %9.4f %8.1f", name, static_cast<long long>(M),
                static_cast<long long>(N), static_cast<long long>(K), 1e3 * ours.best, 1e3 * ours.median,
                flops / ours.best * 1e-9);
    if (blas.available()) {
        const Timing theirs = moek::bench::measure(
            [&] { blas.multiply(transpose_a, transpose_b, M, N, K, a.data(), lda, b.data(), ldb, c.data(), N); });
        std::printf("  %9.4f %8.1f %6.2f", 1e3 * theirs.best, flops / theirs.best * 1e-9, theirs.best / ours.best);
    }
    std::printf("\n");
}

}  // namespace

int main(int count, char** values) {
    const moek::bench::Blas blas(moek::bench::option(count, values, "--blas", nullptr));
    const int isa = std::atoi(moek::bench::option(count, values, "--isa", "0"));
    moek::cpu::Context context(std::atoi(moek::bench::option(count, values, "--threads", "1")),
                               moek::cpu::resolve_isa(isa));
    std::printf("threads %d, isa %d\n", context.pool.thread_count(), context.isa);
    std::printf("%-10s %6s %6s %6s  %9s %9s %8s%s\n", "product", "M", "N", "K", "min ms", "median ms", "GFLOP/s",
                blas.available() ? "    BLAS ms  GFLOP/s  ratio" : "");
    for (const int64_t T : {int64_t{16}, int64_t{512}, int64_t{2048}}) {
        for (const int64_t d : {int64_t{1024}, int64_t{4096}}) {
            for (const int64_t r : {int64_t{16}, int64_t{64}, int64_t{128}}) {
                run_form(context, blas, {"x W^T", false, true, T, r, d});
                run_form(context, blas, {"h B^T", false, true, T, d, r});
                run_form(context, blas, {"dU A", false, false, T, d, r});
                run_form(context, blas, {"dU^T x", true, false, r, d, T});
            }
        }
    }
    return 0;
}
