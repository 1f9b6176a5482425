// Back through the cores: with Q_e = dv C_e^T
//
//     dp[t, e] = Q_e[t] . u[t],   du[t] = sum_e p[t, e] Q_e[t]
//
// Layouts     dY B is f32 partial sums [splits, T, r]; u, p, v, dp and du f32; C [E, r, r] in any dtype; the operands
//             [T, pitch] in x's dtype.
// Owner       Block x takes tokens 128 x .. 128 x + 127. With up to 64 ranks it does all of their work, also what comes ahead
//             (prepare_tile.cuh) and behind (finish_tile.cuh); with more of them these are kernels of their own, and block
//             (x, y) alone has ranks 64 y .. 64 y + 63 of du and a part of dp that no other one has.
// Bytes       4 splits r T and 4 (2 r + E) T in, 2 or 3 pitches T and 4 (r + E) T out, of which only the caller's tensors
//             have to come from or go to memory; C once per block, out of L2. Q never leaves registers.
// Order       Splits in order, the steps of a core in order, cores in order; dp's sum over ranks is a thread's own ranks in
//             order, its neighbours by butterfly, then the parts in order.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "cuda/common/launch.hpp"
#include "cuda/core_merge/core_product.cuh"
#include "cuda/core_merge/finish_tile.cuh"
#include "cuda/core_merge/mix_back.hpp"
#include "cuda/core_merge/prepare_tile.cuh"
#include "cuda/gemm/dispatch.hpp"
#include "cuda/gemm/make_source.hpp"

namespace moek::cuda {

template <class Operand, class Weight>
struct MixBackParameters {
    PrepareTask<Operand> prepare;
    FinishTask<Operand, Weight> finish;
    Cores<Weight> cores;
    int32_t fused;
};

// du += p_e Q_e, dp_e = Q_e . u
template <class Sums>
struct BackThroughCores {
    const float* p;  // of the tile's first token, as dp
    float* dp;
    int E;
    int rows;  // tokens that exist
    float weight[Sums::kOwnRows];
    Sums u;
    Sums du;

    __device__ __forceinline__ void begin(int e) {
#pragma unroll
        for (int i = 0; i < Sums::kOwnRows; ++i) {
            const int row = Sums::own_row(i);
            weight[i] = row < rows ? p[row * E + e] : 0.0f;
        }
    }
    __device__ __forceinline__ void end(int e, const Sums& product) {
        du.combine(product, [&](int i, float& sum, float value) { sum = fmaf(weight[i], value, sum); });
        float dot[Sums::kOwnRows];
#pragma unroll
        for (int i = 0; i < Sums::kOwnRows; ++i) dot[i] = 0;
        u.combine(product, [&](int i, float& own, float value) { dot[i] = fmaf(own, value, dot[i]); });
#pragma unroll
        for (int i = 0; i < Sums::kOwnRows; ++i) {
            const int row = Sums::own_row(i);
            const float sum = warp_sum<Sums::kRowThreads>(dot[i]);
            const bool writes = static_cast<int>(threadIdx.x) % Sums::kRowThreads == i % Sums::kRowThreads;
            if (writes && row < rows) dp[row * E + e] = sum;
        }
    }
};

template <class P, class Weight>
__global__ void __launch_bounds__(kProductThreads, 1)
    mix_back_kernel(const MixBackParameters<typename P::Operand, Weight> call) {
    using Operand = typename P::Operand;
    using Sums = typename P::Sums;
    MOEK_DYNAMIC_SHARED(unsigned char, shared);
    const PrepareTask<Operand>& ahead = call.prepare;
    const int r = ahead.r;
    const int E = ahead.E;
    const int64_t T = ahead.sums.T;
    const int64_t first_token = static_cast<int64_t>(blockIdx.x) * kBlockRows;
    const int first_column = static_cast<int>(blockIdx.y) * P::kBlockColumns;
    if (call.fused != 0) prepare_tile(ahead, first_token);

    TokenSource<Operand> dv = {};
    dv.data = ahead.dv;
    dv.stride = ahead.pitch;
    dv.tokens = T;
    dv.elements = r;
    dv.aligned = 1;
    BackThroughCores<Sums> back;
    const int part = static_cast<int>(blockIdx.y) * Sums::kRowParts + Sums::row_part();
    back.p = ahead.p + first_token * E;
    back.dp = call.finish.dp + (part * T + first_token) * E;
    back.E = E;
    back.rows = static_cast<int>(min(static_cast<int64_t>(kBlockRows), T - first_token));
    back.u.for_each([&](int row, int column, float& value) {
        const bool exists = row < back.rows && first_column + column < r;
        value = exists ? ahead.u[(first_token + row) * r + first_column + column] : 0.0f;
    });
    back.du.clear();
    for_each_core<P>(dv, first_token, call.cores, first_column, shared, back);
    back.du.for_each([&](int row, int column, float& value) {
        if (row < back.rows && first_column + column < r) {
            call.finish.du[(first_token + row) * r + first_column + column] = value;
        }
    });
    if (call.fused == 0) return;
    __syncthreads();
    finish_tile(call.finish, first_token, shared);
}

template <class Operand, class Weight, Math kMath>
void launch_mix_back(const moek_core_merge_args& args, const MixBack& back, cudaStream_t stream) {
    MixBackParameters<Operand, Weight> call = {};
    PrepareTask<Operand>& prepare = call.prepare;
    const bool has_dv = back.dv_rows != nullptr;
    prepare.u = static_cast<const float*>(args.u);
    prepare.v = static_cast<const float*>(args.v);
    prepare.sums = {has_dv ? back.partials : prepare.v, has_dv ? back.splits : 0, static_cast<int32_t>(args.r), args.T};
    prepare.r = static_cast<int32_t>(args.r);
    prepare.E = static_cast<int32_t>(args.E);
    prepare.scale = static_cast<float>(args.scale);
    prepare.dropout = back.dropout;
    prepare.v_aligned = rows_are_aligned(prepare.v, args.r);
    prepare.p = static_cast<const float*>(args.p);
    prepare.dv = static_cast<Operand*>(back.dv_rows);
    prepare.vd = static_cast<Operand*>(back.vd_rows);
    prepare.u_rows = static_cast<Operand*>(back.u_rows);
    prepare.pitch = back.pitch;
    prepare.live = back.live;
    const dim3 row_tiles(static_cast<unsigned>((args.T + kBlockRows - 1) / kBlockRows));
    if (!back.past_cores || !back.plan.fused()) {
        launch(prepare_kernel<Operand>, row_tiles, dim3(kProductThreads), 0, stream, prepare);
        if (!back.past_cores) return;
    }

    constexpr int kRouterBytes = RouterProduct<Along::kRows>::kSharedBytes;
    FinishTask<Operand, Weight>& finish = call.finish;
    finish.T = args.T;
    finish.r = prepare.r;
    finish.E = prepare.E;
    finish.router = args.router;
    finish.inverse_temperature = static_cast<float>(1 / args.temperature);
    finish.W_g = make_source<Weight>(one_weight(args.W_g, args.W_g_stride, args.E, args.r, WeightOrder::kDepthByLine));
    finish.p = prepare.p;
    finish.live = back.live;
    finish.dp = back.dp;
    finish.dp_out = static_cast<float*>(args.dp);
    finish.du = back.du;
    finish.d = static_cast<Operand*>(back.d_rows);
    finish.d_pitch = back.d_pitch;
    finish.router_column = back.router_column;
    call.cores = make_cores<Weight>(args.C, args.r, args.E, back.plan);
    call.fused = back.plan.fused();
    with_core_columns(back.plan.block_columns, [&](auto columns) {
        using P = Product<kMath, Operand, Along::kDepth, Along::kDepth, decltype(columns)::value>;
        finish.parts = back.plan.column_tiles * P::Sums::kRowParts;
        launch(mix_back_kernel<P, Weight>, dim3(row_tiles.x, static_cast<unsigned>(back.plan.column_tiles)),
               dim3(kProductThreads), std::max(P::kSharedBytes, kRouterBytes), stream, call);
    });
    if (!back.plan.fused()) {
        launch(finish_kernel<Operand, Weight>, row_tiles, dim3(kProductThreads), kRouterBytes, stream, finish);
    }
}

}  // namespace moek::cuda
