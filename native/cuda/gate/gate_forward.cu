// Gate forward: logits [T, E] -> ids [T, k], weights [T, k], counts [E], lse [T]; the formulas of moek_gate_args.
//
// Layout. A row belongs to a team: 4 to 32 lanes of a warp up to E = 512, above that a block. Its logits are read once,
// into registers, and all that is said of the row is decided there (gate_row.cuh); a team writes its own row of ids, weights and
// lse. A block takes every gridDim-th group of rows.
// Counts. A block counts in shared memory and then adds its histogram to `counts` with integer atomics: their sum does
// not depend on the order, so the result is the same on every run. `counts` must be zero before any block adds. That
// takes a memset ahead of the kernel, for no block knows that another one has started: what a block could look at to find
// out lies in memory whose contents are undefined. Where few rows are left to do, one block takes them all and stores its
// histogram, and the memset falls away.
// Bytes. The least there is: T E logits in, T k ids and weights out. At E = 64, k = 8 that is 2 MB for T = 8192, below a
// microsecond of a large GPU's bandwidth; what bounds the kernel is the launch, and behind it the chain of dependent
// instructions in a row.
#include "core/dtype.hpp"
#include "core/gate/cuda_plan.hpp"
#include "cuda/common/launch.hpp"
#include "cuda/common/shared_memory.hpp"
#include "cuda/gate/gate.hpp"
#include "cuda/gate/gate_row.cuh"
#include "cuda/gate/row_elements.cuh"
#include "cuda/gate/row_form.cuh"

namespace moek::cuda {
namespace {

struct GateForward {
    GateRule rule;
    int64_t T;
    const void* logits;
    int64_t logits_stride;
    int32_t logits_dtype;
    bool logits_aligned;
    bool weights_aligned;  // of the rows of a dense gate
    CudaGateCounts counting;
    int32_t* ids;
    float* weights;
    float* lse;
    unsigned* counts;
};

template <class Team, int kPerThread>
__global__ void __launch_bounds__(512) gate_forward_kernel(GateForward call) {
    MOEK_DYNAMIC_SHARED(unsigned, shared);
    const GateRule& rule = call.rule;
    const bool counts_ids = call.counting != CudaGateCounts::kNone;
    unsigned* const histogram = shared;
    const Team team(shared + (counts_ids ? rule.E : 0));
    if (counts_ids) {
        for (int e = static_cast<int>(threadIdx.x); e < rule.E; e += static_cast<int>(blockDim.x)) histogram[e] = 0;
        __syncthreads();
    }

    const int first = team.thread() * kPerThread;
    float bias[kPerThread];
    load_bias(team, rule, bias);
    const int rows = static_cast<int>(blockDim.x) / Team::kThreads;
    const int64_t step = int64_t{gridDim.x} * rows;
    for (int64_t start = int64_t{blockIdx.x} * rows; start < call.T; start += step) {
        const int64_t row = start + static_cast<int>(threadIdx.x) / Team::kThreads;
        const bool exists = row < call.T;
        float logits[kPerThread];
        load_elements_of(call.logits, call.logits_dtype, row * call.logits_stride + first, exists ? rule.E - first : 0,
                         call.logits_aligned, logits);
        GateRow<kPerThread> result;
        gate_row_forward(team, rule, logits, bias, call.lse != nullptr, result);
        if (!exists) continue;

        if (call.lse != nullptr && team.thread() == 0) call.lse[row] = result.lse;
        if (rule.all) {
            store_elements(call.weights + row * rule.E + first, result.weight, rule.E - first, call.weights_aligned);
            continue;
        }
        store_gate_row(team, result, call.ids + row * rule.k, call.weights + row * rule.k);
        if (!counts_ids) continue;
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
            if (result.slot[i] >= 0) atomicAdd(&histogram[first + i], 1u);
        }
    }

    if (!counts_ids) return;
    __syncthreads();
    for (int e = static_cast<int>(threadIdx.x); e < rule.E; e += static_cast<int>(blockDim.x)) {
        const unsigned count = histogram[e];
        if (call.counting == CudaGateCounts::kStore) {
            call.counts[e] = count;
        } else if (count != 0) {
            atomicAdd(&call.counts[e], count);
        }
    }
}

}  // namespace

void launch_gate_forward(const Device& device, const moek_gate_args& args, cudaStream_t stream) {
    const bool accumulates = (args.flags & MOEK_CALL_FLAG_ACCUMULATE_COUNTS) != 0;
    const CudaGatePlan plan =
        plan_cuda_gate_forward(args.T, args.E, args.counts != nullptr, accumulates, device.sm_count);
    if (plan.clear_counts) {
        check(cudaMemsetAsync(args.counts, 0, static_cast<size_t>(args.E) * sizeof(int32_t), stream),
              "cudaMemsetAsync");
    }
    if (args.T == 0) return;

    GateForward call = {};
    call.rule = make_gate_rule(args);
    call.T = args.T;
    call.logits = args.logits;
    call.logits_stride = args.logits_stride;
    call.logits_dtype = args.logits_dtype;
    call.logits_aligned = runs_are_aligned(args.logits, args.logits_stride,
                                           static_cast<int>(dtype_size(args.logits_dtype)), plan.form.per_thread);
    call.weights_aligned = runs_are_aligned(args.weights, args.E, sizeof(float), plan.form.per_thread);
    call.counting = plan.counts;
    call.ids = static_cast<int32_t*>(args.ids);
    call.weights = static_cast<float*>(args.weights);
    call.lse = static_cast<float*>(args.lse);
    call.counts = static_cast<unsigned*>(args.counts);
    with_row_form(plan.form, [&](auto form) {
        using Form = decltype(form);
        using Team = typename Form::Team;
        const size_t histogram_bytes =
            plan.counts == CudaGateCounts::kNone ? 0 : static_cast<size_t>(args.E) * sizeof(unsigned);
        const size_t shared_bytes = histogram_bytes + Team::scratch_bytes(Form::kPerThread, static_cast<int>(args.k));
        launch(gate_forward_kernel<Team, Form::kPerThread>, dim3(static_cast<unsigned>(plan.blocks)),
               dim3(static_cast<unsigned>(plan.block_threads)), shared_bytes, stream, call);
    });
}

moek_status gate_forward_workspace(void*, const moek_gate_args* args, uint64_t* out_bytes) {
    return guarded([&] {
        require_not_f64(args->logits_dtype);
        *out_bytes = 0;
    });
}

moek_status gate_forward(void* state, const moek_gate_args* args, void*, void* stream) {
    return guarded([&] {
        require_not_f64(args->logits_dtype);
        require_not_strict(args->flags);
        const Device& device = device_of(state);
        const DeviceGuard guard(device);
        launch_gate_forward(device, *args, stream_of(stream));
    });
}

}  // namespace moek::cuda
