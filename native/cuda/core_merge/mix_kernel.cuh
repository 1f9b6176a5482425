// u, p and v of core_merge, and the left operand scale dropout(v) of the product with B:
//
//     v[t, j] = sum_e p[t, e] S_e[t, j],   S_e = u C_e
//
// Layouts     u and the INPUT router's logits are f32 partial sums [splits, T, columns]; u, p and v f32; C [E, r, r] in any
//             dtype; the operands [T, pitch] in x's dtype.
// Owner       Block x takes tokens 128 x .. 128 x + 127. With up to 64 ranks it does all of their work, the router's too
//             (route_tile.cuh); with more of them a kernel before this one routes, and block (x, y) alone writes v for
//             ranks 64 y .. 64 y + 63.
// Bytes       4 splits columns T in, out of L2, where the product before has just put them; u, p and v where they are asked
//             for; 2 pitches T out; C once per block, out of L2. Neither S nor a token's merged core leaves registers.
// Order       Splits in order, the steps of a core in order, cores in order: f32 sums of f32 products p S. Silent tokens
//             give zeros, whatever their u is.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "cuda/common/launch.hpp"
#include "cuda/core_merge/core_product.cuh"
#include "cuda/core_merge/mix.hpp"
#include "cuda/core_merge/route_tile.cuh"
#include "cuda/gemm/dispatch.hpp"
#include "cuda/gemm/make_source.hpp"
#include "cuda/gemm/staging.hpp"

namespace moek::cuda {

template <class Operand, class Weight>
struct MixParameters {
    RouteTask<Operand, Weight> route;
    Cores<Weight> cores;
    int32_t fused;
    int32_t v_aligned;
    float* v;  // or null
    Operand* vd;
    float scale;
    Dropout dropout;
};

// v += p_e S_e
template <class Sums>
struct WeightedCores {
    const float* p;  // of the tile's first token
    int E;
    int rows;  // tokens that exist
    float weight[Sums::kOwnRows];
    Sums v;

    __device__ __forceinline__ void begin(int e) {
#pragma unroll
        for (int i = 0; i < Sums::kOwnRows; ++i) {
            const int row = Sums::own_row(i);
            weight[i] = row < rows ? p[row * E + e] : 0.0f;
        }
    }
    __device__ __forceinline__ void end(int, const Sums& product) {
        v.combine(product, [&](int i, float& sum, float value) { sum = fmaf(weight[i], value, sum); });
    }
};

// How many blocks a multiprocessor holds. With tiles of 64 columns two would leave a register too few on 9.0.
template <class P>
inline constexpr int kMixBlocks = P::kMath == Math::kTensorCore&& P::kBlockColumns != 64 ? 2 : 1;

template <class P, class Weight>
__global__ void __launch_bounds__(kProductThreads, kMixBlocks<P>)
    mix_kernel(const MixParameters<typename P::Operand, Weight> call) {
    using Operand = typename P::Operand;
    MOEK_DYNAMIC_SHARED(unsigned char, shared);
    const int r = call.route.r;
    const int64_t T = call.route.sums.T;
    const int64_t first_token = static_cast<int64_t>(blockIdx.x) * kBlockRows;
    const int first_column = static_cast<int>(blockIdx.y) * P::kBlockColumns;
    if (call.fused != 0) route_tile(call.route, first_token, shared);

    TokenSource<Operand> u = {};
    u.data = call.route.operand;
    u.stride = call.route.pitch;
    u.tokens = T;
    u.elements = r;
    u.aligned = 1;
    WeightedCores<typename P::Sums> mixed;
    mixed.p = call.route.p + first_token * call.route.E;
    mixed.E = call.route.E;
    mixed.rows = static_cast<int>(min(static_cast<int64_t>(kBlockRows), T - first_token));
    mixed.v.clear();
    for_each_core<P>(u, first_token, call.cores, first_column, shared, mixed);

    using Staged = Staging<P, 4>;
    const float* const staged = Staged::put(mixed.v, shared);
    constexpr int kRowFours = P::kBlockColumns / 4;
    for (int i = static_cast<int>(threadIdx.x); i < kBlockRows * kRowFours; i += kProductThreads) {
        const int row = i / kRowFours;
        const int own_column = i % kRowFours * 4;
        const int64_t token = first_token + row;
        const int column = first_column + own_column;
        const int valid = r - column;
        if (token >= T || valid <= 0) continue;

        const bool live = call.route.live[token] != 0;
        const float4 four = *reinterpret_cast<const float4*>(staged + row * Staged::kPitch + own_column);
        float v[4] = {live ? four.x : 0, live ? four.y : 0, live ? four.z : 0, live ? four.w : 0};
        if (call.v != nullptr) store_elements(call.v + token * r + column, v, valid, call.v_aligned != 0);
        if (call.dropout.active()) {
            float factors[4];
            dropout_run(call.dropout, static_cast<uint64_t>(token * r + column), factors);
#pragma unroll
            for (int k = 0; k < 4; ++k) v[k] *= factors[k];
        }
#pragma unroll
        for (int k = 0; k < 4; ++k) v[k] = call.scale == 0 ? 0.0f : call.scale * v[k];
        store_elements(call.vd + token * call.route.pitch + column, v, valid, true);
    }
}

template <class Operand, class Weight, Math kMath>
void launch_mix(const moek_core_merge_args& args, const Mix& mix, cudaStream_t stream) {
    constexpr int kRouterBytes = RouterProduct<Along::kDepth>::kSharedBytes;
    MixParameters<Operand, Weight> call = {};
    RouteTask<Operand, Weight>& route = call.route;
    route.sums = {mix.partials, mix.splits, mix.columns, args.T};
    route.r = static_cast<int32_t>(args.r);
    route.E = static_cast<int32_t>(args.E);
    route.router = args.router;
    route.inverse_temperature = static_cast<float>(1 / args.temperature);
    route.W_g = make_source<Weight>(one_weight(args.W_g, args.W_g_stride, args.E, args.r, WeightOrder::kDepthInLine));
    route.u = mix.u;
    route.u_aligned = rows_are_aligned(mix.u, args.r);
    route.operand = static_cast<Operand*>(mix.u_rows);
    route.pitch = mix.pitch;
    route.p = mix.p;
    route.live = mix.live;
    call.cores = make_cores<Weight>(args.C, args.r, args.E, mix.plan);
    call.fused = mix.plan.fused();
    call.v = static_cast<float*>(args.v);
    call.v_aligned = rows_are_aligned(call.v, args.r);
    call.vd = static_cast<Operand*>(mix.vd_rows);
    call.scale = static_cast<float>(args.scale);
    call.dropout = mix.dropout;

    const unsigned row_tiles = static_cast<unsigned>((args.T + kBlockRows - 1) / kBlockRows);
    if (!mix.plan.fused()) {
        launch(route_kernel<Operand, Weight>, dim3(row_tiles), dim3(kProductThreads), kRouterBytes, stream, route);
    }
    with_core_columns(mix.plan.block_columns, [&](auto columns) {
        using P = Product<kMath, Operand, Along::kDepth, Along::kRows, decltype(columns)::value>;
        launch(mix_kernel<P, Weight>, dim3(row_tiles, static_cast<unsigned>(mix.plan.column_tiles)),
               dim3(kProductThreads), std::max(P::kSharedBytes, kRouterBytes), stream, call);
    });
}

}  // namespace moek::cuda
