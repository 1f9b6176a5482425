// Gate backward: logits [T, E], ids [T, k], dweights [T, k], dlse [T] -> dlogits [T, E]; the formulas of moek_gate_args.
//
// Layout. A row belongs to a team, as in forward. Its logits are read once, into registers; ids and dweights reach the
// elements through shared memory of the team's own (gate_row_backward.cuh). A team writes, or with ACCUMULATE_OUTPUT
// adds to, its own row of dlogits, and every sum has a fixed order: same inputs, same bits.
// Ids. An id outside 0 .. E - 1 is passed over: its slot adds nothing to dlogits, and nothing is read or written out of
// bounds. The CPU reports such an id; a GPU could do so only by making the host wait for its data. Of an id that appears
// twice in a row, which forward never makes, the first counts.
// Bytes. The least there is: T E logits and T k ids and dweights in, T E dlogits out. At E = 64, k = 8 that is 5 MB in f32
// for T = 8192, two microseconds of a large GPU's bandwidth; the launch, and the chain of dependent instructions in a row
// (three sums), weigh as much.
#include "core/dtype.hpp"
#include "core/gate/cuda_plan.hpp"
#include "cuda/common/launch.hpp"
#include "cuda/common/shared_memory.hpp"
#include "cuda/gate/gate.hpp"
#include "cuda/gate/gate_row_backward.cuh"
#include "cuda/gate/row_elements.cuh"
#include "cuda/gate/row_form.cuh"

namespace moek::cuda {
namespace {

struct GateBackward {
    GateRule rule;
    int64_t T;
    const void* logits;
    int64_t logits_stride;
    void* dlogits;
    int64_t dlogits_stride;
    int32_t dtype;  // of logits and dlogits
    bool logits_aligned;
    bool dlogits_aligned;
    bool dweights_aligned;  // of the rows of a dense gate
    bool accumulate;
    const int32_t* ids;
    const float* dweights;
    const float* dlse;
};

template <class Team, int kPerThread>
__global__ void __launch_bounds__(256, 1) gate_backward_kernel(GateBackward call) {
    MOEK_DYNAMIC_SHARED(SlotEntry, entries);
    const GateRule& rule = call.rule;
    const int rows = static_cast<int>(blockDim.x) / Team::kThreads;
    const int team_index = static_cast<int>(threadIdx.x) / Team::kThreads;
    SlotEntry* const own_entries = entries + team_index * Team::kThreads * kPerThread;
    const Team team(entries + rows * Team::kThreads * kPerThread);

    const int first = team.thread() * kPerThread;
    float bias[kPerThread];
    load_bias(team, rule, bias);
    const int64_t step = int64_t{gridDim.x} * rows;
    for (int64_t start = int64_t{blockIdx.x} * rows; start < call.T; start += step) {
        const int64_t row = start + team_index;
        const bool exists = row < call.T;
        const int valid = exists ? rule.E - first : 0;
        float logits[kPerThread];
        load_elements_of(call.logits, call.dtype, row * call.logits_stride + first, valid, call.logits_aligned, logits);
        const bool has_dlse = call.dlse != nullptr;
        const float dlse = has_dlse && exists ? call.dlse[row] : 0.0f;
        int slot[kPerThread];
        float dweight[kPerThread];
        if (rule.all) {
            load_elements(call.dweights + row * rule.E + first, valid, call.dweights_aligned, dweight);
#pragma unroll
            for (int i = 0; i < kPerThread; ++i) slot[i] = i < valid ? first + i : -1;
        } else {
            elements_of_slots(team, rule.E, rule.k, exists, call.ids + row * rule.k, call.dweights + row * rule.k,
                              own_entries, slot, dweight);
        }
        float gradient[kPerThread];
        gate_row_backward(team, rule, logits, bias, slot, dweight, has_dlse, dlse, gradient);
        if (!exists) continue;

        const int64_t target = row * call.dlogits_stride + first;
        if (call.accumulate) {
            float before[kPerThread];
            load_elements_of(call.dlogits, call.dtype, target, valid, call.dlogits_aligned, before);
#pragma unroll
            for (int i = 0; i < kPerThread; ++i) gradient[i] += before[i];
        }
        store_elements_of(call.dlogits, call.dtype, target, gradient, valid, call.dlogits_aligned);
    }
}

}  // namespace

void launch_gate_backward(const Device& device, const moek_gate_args& args, cudaStream_t stream) {
    if (args.T == 0) return;
    const CudaGatePlan plan = plan_cuda_gate_backward(args.T, args.E, device.sm_count);
    const int element_bytes = static_cast<int>(dtype_size(args.logits_dtype));
    const int per_thread = plan.form.per_thread;
    GateBackward call = {};
    call.rule = make_gate_rule(args);
    call.T = args.T;
    call.logits = args.logits;
    call.logits_stride = args.logits_stride;
    call.dlogits = args.dlogits;
    call.dlogits_stride = args.dlogits_stride;
    call.dtype = args.logits_dtype;
    call.logits_aligned = runs_are_aligned(args.logits, args.logits_stride, element_bytes, per_thread);
    call.dlogits_aligned = runs_are_aligned(args.dlogits, args.dlogits_stride, element_bytes, per_thread);
    call.dweights_aligned = runs_are_aligned(args.dweights, args.E, sizeof(float), per_thread);
    call.accumulate = (args.flags & MOEK_CALL_FLAG_ACCUMULATE_OUTPUT) != 0;
    call.ids = static_cast<const int32_t*>(args.ids);
    call.dweights = static_cast<const float*>(args.dweights);
    call.dlse = static_cast<const float*>(args.dlse);
    with_row_form(plan.form, [&](auto form) {
        using Form = decltype(form);
        using Team = typename Form::Team;
        const size_t entries = static_cast<size_t>(plan.block_threads) * Form::kPerThread;
        // Nothing is selected here: the team's scratch memory is for sums alone.
        const size_t shared_bytes = entries * sizeof(SlotEntry) + Team::scratch_bytes(Form::kPerThread, 0);
        launch(gate_backward_kernel<Team, Form::kPerThread>, dim3(static_cast<unsigned>(plan.blocks)),
               dim3(static_cast<unsigned>(plan.block_threads)), shared_bytes, stream, call);
    });
}

moek_status gate_backward_workspace(void*, const moek_gate_args* args, uint64_t* out_bytes) {
    return guarded([&] {
        require_not_f64(args->logits_dtype);
        *out_bytes = 0;
    });
}

moek_status gate_backward(void* state, const moek_gate_args* args, void*, void* stream) {
    return guarded([&] {
        require_not_f64(args->logits_dtype);
        require_not_strict(args->flags);
        const Device& device = device_of(state);
        const DeviceGuard guard(device);
        launch_gate_backward(device, *args, stream_of(stream));
    });
}

}  // namespace moek::cuda
