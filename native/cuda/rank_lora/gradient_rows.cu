// The gradient of rank_lora's gate, per token and rank:
//
//   dh = scale dP,   dgate = u dh,   du = gate dh,   dz from dgate through the router (or du += da through the softmax)
//
// Layouts     dP is f32 partial sums [splits, T, r]; ids, gates, u and dgates [T, k]; h [T, pitch] and d = [du, dz]
//             [T, pitch] in x's dtype, dense: the products that follow need no indices. A token whose row of h (or d) is
//             all zeros is not live: those products pass it over, so that a NaN in its x reaches nobody.
// Owner       A token belongs to a team of threads (cuda/gate/team.cuh), which writes all of its rows.
// Bytes       4 splits r T in, out of L2, and 12 k T + 4 router_rows T that forward saved; 2 pitches T out.
// Order       Splits in order, sums within a token in the team's fixed order.
#include "core/dtype.hpp"
#include "core/gate/cuda_plan.hpp"
#include "cuda/common/launch.hpp"
#include "cuda/common/shared_memory.hpp"
#include "cuda/gate/activation_row_backward.cuh"
#include "cuda/gate/gate_row_backward.cuh"
#include "cuda/gate/row_elements.cuh"
#include "cuda/gate/row_form.cuh"
#include "cuda/rank_lora/gradient_rows.hpp"
#include "cuda/rank_lora/rank_row.cuh"

namespace moek::cuda {
namespace {

struct Parameters {
    ActivationRule rule;  // its `softmax` is the router's rule with the gate ROUTER
    GradientRows rows;
    int64_t T;
    int32_t gate;
    int32_t partition;
    float scale;
    int32_t dtype;  // of h and d
    int32_t h_aligned;
    int32_t d_aligned;
    const int32_t* ids;
    const float* gates;
    const float* u;
    const float* gate_logits;
    float* dgates;
};

// Of the token's rows, whether any value of any thread is not 0. (A NaN is not.)
template <int kPerThread, class Team>
__device__ __forceinline__ bool any_value(const Team& team, const float (&values)[kPerThread]) {
    float found = 0;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) found = values[i] != 0 ? 1.0f : found;
    return team.max(found) != 0;
}

template <class Team, int kPerThread>
__global__ void __launch_bounds__(256, kPerThread <= 2 ? 4 : 1) gradient_rows_kernel(const Parameters call) {
    MOEK_DYNAMIC_SHARED(int, shared);
    const int r = call.rule.softmax.E;
    const int k = call.rule.softmax.k;
    const int teams = static_cast<int>(blockDim.x) / Team::kThreads;
    const int team_index = static_cast<int>(threadIdx.x) / Team::kThreads;
    // First the places of the ids, then dz by rank where several ranks share a row of the router.
    int* const own = shared + team_index * Team::kThreads * kPerThread;
    const Team team(shared + teams * Team::kThreads * kPerThread);

    const int first = team.thread() * kPerThread;
    float bias[kPerThread];
    load_bias(team, call.rule.softmax, bias);
    const int64_t split_stride = call.T * r;
    const int64_t step = int64_t{gridDim.x} * teams;
    for (int64_t start = int64_t{blockIdx.x} * teams; start < call.T; start += step) {
        const int64_t token = start + team_index;
        const bool exists = token < call.T;
        const int valid = exists ? r - first : 0;
        int slot[kPerThread];
        find_slots(team, r, k, exists, call.ids + token * k, own, slot);

        float dh[kPerThread];
        sum_splits(call.rows.partials + token * r + first, call.rows.splits, split_stride, valid, dh);
        float gate[kPerThread];
        float dgate[kPerThread];
        float h[kPerThread];
        float du[kPerThread];
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            const bool selected = slot[i] >= 0;
            const float u = selected ? call.u[token * k + slot[i]] : 0.0f;
            gate[i] = selected ? call.gates[token * k + slot[i]] : 0.0f;
            const float scaled = call.scale == 0 || !selected ? 0.0f : call.scale * dh[i];
            // A zero gate passes nothing on, whatever u and dh are.
            const float factor = call.scale * gate[i];
            h[i] = factor == 0 ? 0.0f : factor * u;
            dgate[i] = u * scaled;
            if (gate[i] == 0 && !(fabsf(dgate[i]) < kInfinity)) dgate[i] = 0;
            du[i] = gate[i] == 0 ? 0.0f : gate[i] * scaled;
            if (selected && call.dgates != nullptr) call.dgates[token * k + slot[i]] = dgate[i];
        }
        const bool h_live = any_value(team, h);
        if (exists && call.rows.h != nullptr) {
            store_elements_of(call.rows.h, call.dtype, token * call.rows.h_pitch + first, h, valid,
                              call.h_aligned != 0);
            if (team.thread() == 0) call.rows.h_live[token] = h_live ? 1 : 0;
        }
        if (call.rows.d == nullptr) {
            team.sync();  // `own` is used again
            continue;
        }

        if (call.gate == MOEK_RANK_GATE_ACTIVATION_SOFTMAX) {
            float a[kPerThread];
            load_elements(call.gate_logits + token * r + first, valid, false, a);
            float da[kPerThread];
            activation_softmax_row_backward(team, call.rule, a, bias, gate, dgate, da);
#pragma unroll
            for (int i = 0; i < kPerThread; ++i) du[i] += da[i];
        }
        bool d_live = any_value(team, du);
        const int64_t d_row = token * call.rows.d_pitch;
        if (exists) store_elements_of(call.rows.d, call.dtype, d_row + first, du, valid, call.d_aligned != 0);
        // The gap before dz is part of the products' depth.
        for (int i = r + team.thread(); exists && i < call.rows.router_column; i += Team::kThreads) {
            const float zero[1] = {0.0f};
            store_elements_of(call.rows.d, call.dtype, d_row + i, zero, 1, false);
        }

        if (call.gate == MOEK_RANK_GATE_ROUTER) {
            float z[kPerThread];
            const float* const saved = call.gate_logits + token * call.rows.router_rows;
#pragma unroll
            for (int i = 0; i < kPerThread; ++i) z[i] = i < valid ? saved[(first + i) / call.partition] : 0.0f;
            float dz[kPerThread];
            gate_row_backward(team, call.rule.softmax, z, bias, slot, dgate, false, 0.0f, dz);
            d_live = any_value(team, dz) || d_live;
            if (call.partition == 1) {
                if (exists) {
                    store_elements_of(call.rows.d, call.dtype, d_row + call.rows.router_column + first, dz, valid,
                                      call.d_aligned != 0);
                }
            } else {
                float* const by_rank = reinterpret_cast<float*>(own);
                team.sync();
#pragma unroll
                for (int i = 0; i < kPerThread; ++i) by_rank[first + i] = dz[i];
                team.sync();
                for (int row = team.thread(); exists && row < call.rows.router_rows; row += Team::kThreads) {
                    float sum[1] = {0.0f};
                    for (int i = 0; i < call.partition; ++i) sum[0] += by_rank[row * call.partition + i];
                    store_elements_of(call.rows.d, call.dtype, d_row + call.rows.router_column + row, sum, 1, false);
                }
            }
        }
        if (exists && team.thread() == 0) call.rows.d_live[token] = d_live ? 1 : 0;
        team.sync();  // `own` is used again
    }
}

}  // namespace

void run_gradient_rows(const Device& device, const moek_rank_lora_args& args, const GradientRows& rows,
                       cudaStream_t stream) {
    if (args.T == 0) return;
    const CudaGatePlan plan = plan_cuda_gate_backward(args.T, args.r, device.sm_count);
    const int element_bytes = static_cast<int>(dtype_size(args.x_dtype));
    Parameters call = {};
    call.rule = args.gate == MOEK_RANK_GATE_ROUTER ? ActivationRule{make_router_rule(args), args.gate, 0, 0, 0}
                                                   : make_activation_rule(args);
    call.rows = rows;
    call.T = args.T;
    call.gate = args.gate;
    call.partition = static_cast<int32_t>(args.rank_partition);
    call.scale = static_cast<float>(args.scale);
    call.dtype = args.x_dtype;
    call.h_aligned = runs_are_aligned(rows.h, rows.h_pitch, element_bytes, plan.form.per_thread);
    call.d_aligned = runs_are_aligned(rows.d, rows.d_pitch, element_bytes, plan.form.per_thread);
    call.ids = static_cast<const int32_t*>(args.ids);
    call.gates = static_cast<const float*>(args.gates);
    call.u = static_cast<const float*>(args.u);
    call.gate_logits = static_cast<const float*>(args.gate_logits);
    call.dgates = static_cast<float*>(args.dgates);
    with_row_form(plan.form, [&](auto form) {
        using Form = decltype(form);
        using Team = typename Form::Team;
        const size_t shared_bytes =
            static_cast<size_t>(plan.block_threads) * Form::kPerThread * sizeof(int) + Team::scratch_bytes(0, 0);
        launch(gradient_rows_kernel<Team, Form::kPerThread>, dim3(static_cast<unsigned>(plan.blocks)),
               dim3(static_cast<unsigned>(plan.block_threads)), shared_bytes, stream, call);
    });
}

}  // namespace moek::cuda
