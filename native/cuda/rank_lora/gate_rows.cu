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
#include "cuda/gate/row_elements.cuh"
#include "cuda/gate/row_form.cuh"
#include "cuda/rank_lora/gate_rows.hpp"
#include "cuda/rank_lora/gate_token.cuh"

namespace moek::cuda {
namespace {

struct Parameters {
    GateTask task;
    GateRows rows;
    int32_t h_dtype;
    int32_t h_aligned;
};

template <class Team, int kPerThread>
__global__ void __launch_bounds__(256, kPerThread <= 4 ? 4 : 1) gate_rows_kernel(const Parameters call) {
    MOEK_DYNAMIC_SHARED(unsigned, shared);
    const GateTask& task = call.task;
    const int r = task.r();
    const int teams = static_cast<int>(blockDim.x) / Team::kThreads;
    const int team_index = static_cast<int>(threadIdx.x) / Team::kThreads;
    unsigned* const histogram = task.counts != nullptr ? shared : nullptr;
    int* const all_places = reinterpret_cast<int*>(shared + (histogram != nullptr ? r : 0));
    const int own_places = Team::kThreads * kPerThread;
    const Team team(all_places + (task.gate == MOEK_RANK_GATE_CALLER ? teams * own_places : 0));
    if (histogram != nullptr) clear_histogram(histogram, r);

    const int first = team.thread() * kPerThread;
    float bias[kPerThread];
    load_bias(team, task.rule.softmax, bias);
    const int64_t step = int64_t{gridDim.x} * teams;
    for (int64_t start = int64_t{blockIdx.x} * teams; start < task.T; start += step) {
        const int64_t token = start + team_index;
        const bool exists = token < task.T;
        const GateInputs inputs = {call.rows.partials + token * call.rows.columns, call.rows.splits,
                                   task.T * call.rows.columns};
        float h[kPerThread];
        gate_token(team, task, bias, inputs, token, exists, true, histogram, all_places + team_index * own_places, h);
        if (!exists) continue;
        store_elements_of(call.rows.h, call.h_dtype, token * call.rows.h_pitch + first, h, r - first,
                          call.h_aligned != 0);
    }
    if (histogram != nullptr) add_histogram(histogram, r, task.counts);
}

}  // namespace

void run_gate_rows(const Device& device, const moek_rank_lora_args& args, const GateRows& rows, cudaStream_t stream) {
    if (args.T == 0) return;
    const CudaGatePlan plan = plan_cuda_gate_backward(args.T, args.r, device.sm_count);
    Parameters call = {};
    call.task = make_gate_task(args);
    call.rows = rows;
    call.h_dtype = args.x_dtype;
    call.h_aligned =
        runs_are_aligned(rows.h, rows.h_pitch, static_cast<int>(dtype_size(args.x_dtype)), plan.form.per_thread);
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
