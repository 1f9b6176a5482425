// rank_lora's gate, per token: a, z -> ids, gates, u, gate_logits, counts and h = scale gate u.
//
// Layouts     a and z are f32 partial sums [splits, T, columns]; ids, gates and u [T, k]; h [T, pitch] in x's dtype, dense,
//             with zeros where a rank is not selected: the product with B then needs no indices.
// Owner       A token belongs to a team of threads (cuda/gate/team.cuh), which writes all of its rows. A block counts in
//             shared memory and adds its histogram to `counts`, which a kernel before this one has cleared.
// Bytes       4 splits columns T in, out of L2, where the product before has just put them; 12 k T and 2 pitch T out.
// Order       Splits in order, sums within a token in the team's fixed order; counts by integer atomics, whose sum does not
//             depend on the order.
#include "core/dtype.hpp"
#include "core/gate/cuda_plan.hpp"
#include "cuda/common/launch.hpp"
#include "cuda/common/shared_memory.hpp"
#include "cuda/gate/activation_row.cuh"
#include "cuda/gate/gate_row.cuh"
#include "cuda/gate/row_elements.cuh"
#include "cuda/gate/row_form.cuh"
#include "cuda/rank_lora/gate_rows.hpp"
#include "cuda/rank_lora/rank_row.cuh"

namespace moek::cuda {
namespace {

struct Parameters {
    ActivationRule rule;  // its `softmax` is the router's rule with the gate ROUTER
    GateRows rows;
    int64_t T;
    int32_t gate;
    int32_t partition;
    float scale;
    int32_t h_dtype;
    int32_t h_aligned;
    int32_t* ids;
    float* gates;
    float* u;
    float* gate_logits;
    unsigned* counts;
};

template <class Team, int kPerThread>
__global__ void __launch_bounds__(256, 1) gate_rows_kernel(const Parameters call) {
    MOEK_DYNAMIC_SHARED(unsigned, shared);
    const int r = call.rule.softmax.E;
    const int k = call.rule.softmax.k;
    const bool counts_ids = call.counts != nullptr;
    const int teams = static_cast<int>(blockDim.x) / Team::kThreads;
    const int team_index = static_cast<int>(threadIdx.x) / Team::kThreads;
    unsigned* const histogram = shared;
    int* const all_places = reinterpret_cast<int*>(shared + (counts_ids ? r : 0));
    int* const places = all_places + team_index * Team::kThreads * kPerThread;
    const Team team(all_places + (call.gate == MOEK_RANK_GATE_CALLER ? teams * Team::kThreads * kPerThread : 0));
    if (counts_ids) {
        for (int i = static_cast<int>(threadIdx.x); i < r; i += static_cast<int>(blockDim.x)) histogram[i] = 0;
        __syncthreads();
    }

    const int first = team.thread() * kPerThread;
    float bias[kPerThread];
    load_bias(team, call.rule.softmax, bias);
    const int64_t split_stride = call.T * call.rows.columns;
    const int64_t step = int64_t{gridDim.x} * teams;
    for (int64_t start = int64_t{blockIdx.x} * teams; start < call.T; start += step) {
        const int64_t token = start + team_index;
        const bool exists = token < call.T;
        const int valid = exists ? r - first : 0;
        const float* const row = call.rows.partials + token * call.rows.columns;
        float a[kPerThread];
        sum_splits(row + first, call.rows.splits, split_stride, valid, a);

        GateRow<kPerThread> gate;
        if (call.gate == MOEK_RANK_GATE_ROUTER) {
            float z[kPerThread];
            sum_router_splits(row + r, call.rows.splits, split_stride, first, call.partition, valid, z);
            gate_row_forward(team, call.rule.softmax, z, bias, false, gate);
            if (call.gate_logits != nullptr) {
                float* const saved = call.gate_logits + token * call.rows.router_rows;
#pragma unroll
                for (int i = 0; i < kPerThread; ++i) {
                    if (i < valid && (first + i) % call.partition == 0) saved[(first + i) / call.partition] = z[i];
                }
            }
        } else if (call.gate == MOEK_RANK_GATE_CALLER) {
            find_slots(team, r, k, exists, call.ids + token * k, places, gate.slot);
#pragma unroll
            for (int i = 0; i < kPerThread; ++i) {
                gate.weight[i] = gate.slot[i] >= 0 ? call.gates[token * k + gate.slot[i]] : 0.0f;
            }
            team.sync();
        } else {
            activation_row_forward(team, call.rule, a, bias, gate);
            if (call.gate == MOEK_RANK_GATE_ACTIVATION_SOFTMAX && call.gate_logits != nullptr) {
#pragma unroll
                for (int i = 0; i < kPerThread; ++i) {
                    if (i < valid) call.gate_logits[token * r + first + i] = a[i];
                }
            }
        }
        if (!exists) continue;

        if (call.gate != MOEK_RANK_GATE_CALLER)
            store_gate_row(team, gate, call.ids + token * k, call.gates + token * k);
        float h[kPerThread];
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            // A zero gate contributes nothing, whatever it gates.
            const float factor = call.scale * gate.weight[i];
            h[i] = gate.slot[i] >= 0 && factor != 0 ? factor * a[i] : 0.0f;
            if (gate.slot[i] < 0) continue;
            if (call.u != nullptr) call.u[token * k + gate.slot[i]] = a[i];
            if (counts_ids) atomicAdd(&histogram[first + i], 1u);
        }
        store_elements_of(call.rows.h, call.h_dtype, token * call.rows.h_pitch + first, h, valid, call.h_aligned != 0);
    }

    if (!counts_ids) return;
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < r; i += static_cast<int>(blockDim.x)) {
        if (histogram[i] != 0) atomicAdd(&call.counts[i], histogram[i]);
    }
}

}  // namespace

void run_gate_rows(const Device& device, const moek_rank_lora_args& args, const GateRows& rows, cudaStream_t stream) {
    if (args.T == 0) return;
    const CudaGatePlan plan = plan_cuda_gate_backward(args.T, args.r, device.sm_count);
    Parameters call = {};
    call.rule = args.gate == MOEK_RANK_GATE_ROUTER ? ActivationRule{make_router_rule(args), args.gate, 0, 0, 0}
                                                   : make_activation_rule(args);
    call.rows = rows;
    call.T = args.T;
    call.gate = args.gate;
    call.partition = static_cast<int32_t>(args.rank_partition);
    call.scale = static_cast<float>(args.scale);
    call.h_dtype = args.x_dtype;
    call.h_aligned =
        runs_are_aligned(rows.h, rows.h_pitch, static_cast<int>(dtype_size(args.x_dtype)), plan.form.per_thread);
    call.ids = static_cast<int32_t*>(args.ids);
    call.gates = static_cast<float*>(args.gates);
    call.u = static_cast<float*>(args.u);
    call.gate_logits = static_cast<float*>(args.gate_logits);
    call.counts = static_cast<unsigned*>(args.counts);
    with_row_form(plan.form, [&](auto form) {
        using Form = decltype(form);
        using Team = typename Form::Team;
        const size_t words =
            (args.counts == nullptr ? 0 : static_cast<size_t>(args.r)) +
            (args.gate == MOEK_RANK_GATE_CALLER ? static_cast<size_t>(plan.block_threads) * Form::kPerThread : 0);
        const size_t shared_bytes =
            words * sizeof(unsigned) + Team::scratch_bytes(Form::kPerThread, static_cast<int>(args.k));
        launch(gate_rows_kernel<Team, Form::kPerThread>, dim3(static_cast<unsigned>(plan.blocks)),
               dim3(static_cast<unsigned>(plan.block_threads)), shared_bytes, stream, call);
    });
}

}  // namespace moek::cuda
