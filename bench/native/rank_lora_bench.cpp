// rank_lora as SMoRA uses it (sigmoid, bias in the weight, k of r ranks), f32, through the C ABI.
//   moekernels_rank_lora_bench [--threads N] [--isa 1..5] [--rank r] [--k k] [--blas LIBRARY]
// With --blas it also times the matrix products alone that a dense implementation needs: x A^T, x W_r^T and h B^T
// forward; dy B, dy^T h, dU A, dz W_r, dU^T x and dz^T x backward. `work` counts those products in both columns, so
// GFLOP/s above the core's peak means ranks that were never touched.
#include <cstdio>
#include <stdexcept>

#include "blas.hpp"
#include "measure.hpp"
#include "moekernels.h"

namespace {

using moek::bench::random_matrix;
using moek::bench::Timing;

void check(moek_status status) {
    if (status == MOEK_STATUS_CODE_OK) return;
    char text[512];
    moek_last_error(text, sizeof(text));
    throw std::runtime_error(text);
}

template <class Query, class Run>
Timing time_op(moek_context* context, const moek_rank_lora_args& args, Query query, Run run) {
    uint64_t bytes = 0;
    check(query(context, &args, &bytes));
    std::vector<unsigned char> workspace(bytes);
    return moek::bench::measure([&] { check(run(context, &args, workspace.data(), bytes, nullptr)); });
}

struct Shape {
    int64_t T, d, r, k;
};

void report(const char* name, const Shape& shape, const Timing& ours, double flops, double bytes,
            const Timing* theirs) {
    std::printf("%-9s %6lld %6lld %4lld %4lld  %9.4f %9.4f %8.1f %7.1f", name, static_cast<long long>(shape.T),
                static_cast<long long>(shape.d), static_cast<long long>(shape.r), static_cast<long long>(shape.k),
                1e3 * ours.best, 1e3 * ours.median, flops / ours.best * 1e-9, bytes / ours.best * 1e-9);
    if (theirs != nullptr) std::printf("  %9.4f %6.2f", 1e3 * theirs->best, theirs->best / ours.best);
    std::printf("\n");
}

void run_shape(moek_context* context, const moek::bench::Blas& blas, const Shape& shape) {
    const auto [T, d, r, k] = shape;
    const std::vector<float> x = random_matrix(T, d, 1), dy = random_matrix(T, d, 2), A = random_matrix(r, d, 3),
                             B = random_matrix(d, r, 4), W_r = random_matrix(r, d, 5), bias = random_matrix(1, r, 6);
    std::vector<float> y(x.size()), dx(x.size()), dA(A.size()), dB(B.size()), dW_r(W_r.size());
    std::vector<float> gates(static_cast<size_t>(T * k)), u(gates.size()), z(static_cast<size_t>(T * r));
    std::vector<int32_t> ids(gates.size());
    moek_rank_lora_args args = {};
    args.struct_size = sizeof(args);
    args.T = T;
    args.d_in = args.d_out = d;
    args.r = r;
    args.k = k;
    args.gate = MOEK_RANK_GATE_ROUTER;
    args.score = MOEK_GATE_SCORE_SIGMOID;
    args.bias_mode = MOEK_BIAS_MODE_WEIGHT;
    args.normalize = MOEK_GATE_NORMALIZE_SUM_TO_K;
    args.scale = 2;
    args.x = x.data();
    args.A = A.data();
    args.B = B.data();
    args.W_r = W_r.data();
    args.bias = bias.data();
    args.y = y.data();
    args.ids = ids.data();
    args.gates = gates.data();
    args.u = u.data();
    args.gate_logits = z.data();
    const Timing forward = time_op(context, args, moek_rank_lora_forward_workspace, moek_rank_lora_forward);
    args.dy = dy.data();
    args.dx = dx.data();
    args.dA = dA.data();
    args.dB = dB.data();
    args.dW_r = dW_r.data();
    const Timing backward = time_op(context, args, moek_rank_lora_backward_workspace, moek_rank_lora_backward);

    Timing blas_forward = {}, blas_backward = {};
    if (blas.available()) {
        std::vector<float> h(z.size()), du(z.size());
        blas_forward = moek::bench::measure([&] {
            blas.multiply(false, true, T, r, d, x.data(), d, A.data(), d, h.data(), r);
            blas.multiply(false, true, T, r, d, x.data(), d, W_r.data(), d, z.data(), r);
            blas.multiply(false, true, T, d, r, h.data(), r, B.data(), r, y.data(), d);
        });
        blas_backward = moek::bench::measure([&] {
            blas.multiply(false, false, T, r, d, dy.data(), d, B.data(), r, du.data(), r);
            blas.multiply(true, false, d, r, T, dy.data(), d, h.data(), r, dB.data(), r);
            blas.multiply(false, false, T, d, r, du.data(), r, A.data(), d, dx.data(), d);
            blas.multiply(false, false, T, d, r, z.data(), r, W_r.data(), d, dx.data(), d);
            blas.multiply(true, false, r, d, T, du.data(), r, x.data(), d, dA.data(), d);
            blas.multiply(true, false, r, d, T, z.data(), r, x.data(), d, dW_r.data(), d);
        });
    }
    const double product = 2.0 * static_cast<double>(T) * static_cast<double>(d) * static_cast<double>(r);
    // The least traffic: every tensor once.
    const double tokens = 4.0 * static_cast<double>(T) * static_cast<double>(d);
    const double weights = 4.0 * 3 * static_cast<double>(d) * static_cast<double>(r);
    report("forward", shape, forward, 3 * product, 2 * tokens + weights, blas.available() ? &blas_forward : nullptr);
    report("backward", shape, backward, 6 * product, 3 * tokens + 2 * weights,
           blas.available() ? &blas_backward : nullptr);
}

}  // namespace

int main(int count, char** values) {
    const moek::bench::Blas blas(moek::bench::option(count, values, "--blas", nullptr));
    const int64_t r = std::atoi(moek::bench::option(count, values, "--rank", "64"));
    const int64_t k = std::atoi(moek::bench::option(count, values, "--k", "8"));
    try {
        moek_context_options options = {};
        options.struct_size = sizeof(options);
        options.thread_count = std::atoi(moek::bench::option(count, values, "--threads", "1"));
        options.isa = std::atoi(moek::bench::option(count, values, "--isa", "0"));
        moek_context* context = nullptr;
        check(moek_context_create(&options, &context));
        std::printf("%-9s %6s %6s %4s %4s  %9s %9s %8s %7s%s\n", "pass", "T", "d", "r", "k", "min ms", "median ms",
                    "GFLOP/s", "GB/s", blas.available() ? "    BLAS ms  ratio" : "");
        for (const int64_t d : {int64_t{1024}, int64_t{4096}}) {
            for (const int64_t T : {int64_t{1}, int64_t{16}, int64_t{512}, int64_t{2048}}) {
                run_shape(context, blas, {T, d, r, k});
            }
        }
        check(moek_context_destroy(context));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
