#include "cpu/core_merge/core_merge.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <optional>
#include <string>

#include "core/dtype.hpp"
#include "core/error.hpp"
#include "cpu/common/gemm.hpp"
#include "cpu/common/workspace.hpp"
#include "cpu/core_merge/kernels.hpp"

namespace moek::cpu {
namespace {

bool accumulates_output(const moek_core_merge_args& args) {
    return (args.flags & MOEK_CALL_FLAG_ACCUMULATE_OUTPUT) != 0;
}

// What the INPUT router reads.
const void* router_source(const moek_core_merge_args& args) {
    return args.router_input == nullptr ? args.x : args.router_input;
}

int64_t router_source_stride(const moek_core_merge_args& args) {
    return args.router_input == nullptr ? args.x_stride : args.router_input_stride;
}

// The INPUT router reads the very x that A reads: one product with [A; W_g] gives u and the logits side by side.
bool stacks_router(const moek_core_merge_args& args) {
    return args.router == MOEK_CORE_ROUTER_INPUT && args.router_input == nullptr && args.dropout_p == 0;
}

// Everything a call needs while it runs.
class Run {
  public:
    Run(Context& context, const moek_core_merge_args& args)
        : context_(context),
          kernels_(MOEK_SELECT_ISA(context.isa, core_merge_kernels)(args.x_dtype == MOEK_DTYPE_F64)),
          accumulator_(accumulator_dtype(args.x_dtype)),
          input_dropout_{input_dropout(args), args.d_in, nullptr, args.E},
          core_dropout_{core_dropout(args), args.r, nullptr, args.E} {
        call_.args = args;
        call_.f64 = args.x_dtype == MOEK_DTYPE_F64;
    }
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;

    // Finds a place for everything; returns the bytes of workspace that takes.
    uint64_t place_forward(void* workspace);
    uint64_t place_backward(void* workspace);

    void forward();
    void backward();

  private:
    const moek_core_merge_args& args() const { return call_.args; }

    void* place(Workspace& workspace, int64_t columns) {
        return workspace.take(args().T, columns, dtype_size(accumulator_));
    }
    void place_scratch(Workspace& workspace);
    void describe_weighted_ranks() { weighted_ranks_ = {call_.u, call_.u_stride, call_.p, args().r, args().E}; }

    RunHook input_hook() const { return hook_of(input_dropout_); }
    RunHook core_hook() const { return hook_of(core_dropout_); }
    RunHook hook_of(const RowFilter& filter) const {
        return filter.active() ? RunHook{kernels_.filter_rows, &filter} : RunHook{};
    }
    RunHook weighted_ranks_hook() const { return {kernels_.weighted_ranks, &weighted_ranks_}; }

    GemmOperand b_operand(bool rank_is_depth) const {
        const bool rank_major = args().b_layout == MOEK_B_LAYOUT_RANK_BY_OUT;
        return rank_major == rank_is_depth ? columns_of(args().B, args().weight_dtype, args().B_stride)
                                           : rows_of(args().B, args().weight_dtype, args().B_stride);
    }
    GemmOperand saved_rows(const void* data, int64_t columns, RunHook hook = {}) const {
        return rows_of(data, accumulator_, columns, hook);
    }
    GemmOperand saved_columns(const void* data, int64_t columns, RunHook hook = {}) const {
        return columns_of(data, accumulator_, columns, hook);
    }
    GemmResult gradient(void* data, int64_t stride) const {
        return result_in(data, args().grad_dtype, stride, (args().flags & MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS) != 0);
    }
    void multiply(int64_t M, int64_t N, int64_t K, const GemmOperand& a, const GemmOperand& b, const GemmResult& c,
                  double alpha = 1) {
        Gemm gemm = product(call_.f64, M, N, K, a, b, c, alpha);
        gemm.packed = packed_;
        run_gemm(context_, gemm, *scratch_);
    }
    template <class Body>
    void for_blocks(int64_t blocks, double work, Body&& body) {
        context_.pool.parallel_for(blocks, work, [&](int64_t block) {
            const ScratchSlots::Lease lease(*scratch_);
            body(block, lease.data());
        });
    }
    int64_t token_blocks() const { return blocks_of(args().T, kCoreMergeTokens); }

    void project();
    void route();
    void publish(void* target, const void* source, int64_t columns, int64_t source_stride);
    void input_gradient();
    void weight_gradients();

    Context& context_;
    CoreMergeKernels kernels_;
    int32_t accumulator_;
    const RowFilter input_dropout_;
    const RowFilter core_dropout_;
    WeightedRanks weighted_ranks_ = {};
    const void* weights_ = nullptr;  // p where a token weighs nothing
    CoreMergeCall call_ = {};
    std::optional<ScratchSlots> scratch_;
    void* packed_ = nullptr;  // a weight as all tasks of a product read it
};

void Run::place_scratch(Workspace& workspace) {
    const int64_t block = kCoreMergeTokens * kCoreMergeColumns * static_cast<int64_t>(dtype_size(accumulator_));
    const int64_t slot_bytes = gemm_scratch_bytes(context_, call_.f64) + block;
    const int32_t threads = context_.pool.thread_count();
    void* buffer = workspace.take(1, static_cast<int64_t>(ScratchSlots::bytes(threads, slot_bytes)), 1);
    if (buffer != nullptr) scratch_.emplace(buffer, threads, slot_bytes);

    // Of A (with W_g beside it), B, the stacked cores and W_g.
    const bool stacked = stacks_router(args());
    const int64_t projected = stacked ? args().r + args().E : args().r;
    const uint64_t most = std::max(
        {gemm_packed_bytes(call_.f64, projected, args().d_in), gemm_packed_bytes(call_.f64, args().d_in, projected),
         gemm_packed_bytes(call_.f64, args().r, args().d_out), gemm_packed_bytes(call_.f64, args().d_out, args().r),
         gemm_packed_bytes(call_.f64, args().r, args().E * args().r),
         gemm_packed_bytes(call_.f64, args().E, args().d_in), gemm_packed_bytes(call_.f64, args().d_in, args().E)});
    packed_ = workspace.take(1, static_cast<int64_t>(most), 1);
}

uint64_t Run::place_forward(void* memory) {
    Workspace workspace(memory);
    place_scratch(workspace);
    // A strict call writes nothing before it has seen all logits.
    const bool strict = (args().flags & MOEK_CALL_FLAG_STRICT) != 0 && args().router != MOEK_CORE_ROUTER_CALLER;
    const bool stacked = stacks_router(args());
    call_.u_stride = stacked ? args().r + args().E : args().r;
    call_.u = args().u == nullptr || strict || stacked ? place(workspace, call_.u_stride) : args().u;
    const bool own_p = args().p == nullptr || strict;
    call_.p = own_p ? place(workspace, args().E) : args().p;
    call_.logits = call_.p;
    call_.logits_stride = args().E;
    if (stacked && call_.u != nullptr) {
        call_.logits = static_cast<char*>(call_.u) + static_cast<uint64_t>(args().r) * dtype_size(accumulator_);
        call_.logits_stride = call_.u_stride;
    }
    call_.v = args().v == nullptr ? place(workspace, args().r) : args().v;
    describe_weighted_ranks();
    return workspace.bytes();
}

uint64_t Run::place_backward(void* memory) {
    Workspace workspace(memory);
    place_scratch(workspace);
    call_.u = args().u;
    call_.u_stride = args().r;
    call_.p = args().p;
    call_.v = args().v;
    call_.dv = place(workspace, args().r);
    call_.du = place(workspace, args().r);
    call_.dl = place(workspace, args().E);
    describe_weighted_ranks();
    return workspace.bytes();
}

void Run::project() {
    const bool stacked = stacks_router(args());
    GemmOperand weights = rows_of(args().A, args().weight_dtype, args().A_stride);
    if (stacked) {
        weights.split = args().r;
        weights.tail = args().W_g;
        weights.tail_stride = args().W_g_stride;
    }
    multiply(args().T, stacked ? args().r + args().E : args().r, args().d_in,
             rows_of(args().x, args().x_dtype, args().x_stride, input_hook()), weights,
             result_in(call_.u, accumulator_, call_.u_stride));
    if (args().router == MOEK_CORE_ROUTER_INPUT && !stacked) {
        multiply(args().T, args().E, args().d_in,
                 rows_of(router_source(args()), args().x_dtype, router_source_stride(args())),
                 rows_of(args().W_g, args().router_dtype, args().W_g_stride),
                 result_in(call_.logits, accumulator_, call_.logits_stride));
    }
}

void Run::route() {
    const double work = static_cast<double>(args().T) * static_cast<double>(args().E) *
                        (10 + static_cast<double>(args().router == MOEK_CORE_ROUTER_CORE ? args().r : 0) / 8);
    std::atomic<int64_t> nan_row = std::numeric_limits<int64_t>::max();
    for_blocks(token_blocks(), work, [&](int64_t block, void* scratch) {
        const int64_t row = kernels_.route(call_, block, scratch);
        // The lowest row is reported, whatever thread finds it.
        int64_t lowest = nan_row.load();
        while (row >= 0 && row < lowest && !nan_row.compare_exchange_weak(lowest, row)) {
        }
    });
    if ((args().flags & MOEK_CALL_FLAG_STRICT) != 0 && nan_row != std::numeric_limits<int64_t>::max()) {
        throw Error(MOEK_STATUS_CODE_NUMERIC,
                    "router logits: got a NaN in row " + std::to_string(nan_row) + " of a strict call");
    }
}

// Copies an intermediate to the caller's tensor where it was not computed there.
void Run::publish(void* target, const void* source, int64_t columns, int64_t source_stride) {
    if (target == nullptr || target == source) return;
    const uint64_t element = dtype_size(accumulator_);
    const uint64_t row_bytes = static_cast<uint64_t>(columns) * element;
    for (int64_t t = 0; t < args().T; ++t) {
        std::memcpy(static_cast<char*>(target) + static_cast<uint64_t>(t) * row_bytes,
                    static_cast<const char*>(source) + static_cast<uint64_t>(t * source_stride) * element, row_bytes);
    }
}

void Run::forward() {
    project();
    if (args().router != MOEK_CORE_ROUTER_CALLER) route();
    publish(args().u, call_.u, args().r, call_.u_stride);
    publish(args().p, call_.p, args().E, args().E);
    multiply(args().T, args().r, args().E * args().r, rows_of(nullptr, accumulator_, 0, weighted_ranks_hook()),
             columns_of(args().C, args().weight_dtype, args().r), result_in(call_.v, accumulator_, args().r));
    multiply(args().T, args().d_out, args().r, saved_rows(call_.v, args().r, core_hook()), b_operand(true),
             result_in(args().y, args().y_dtype, args().y_stride, accumulates_output(args())), args().scale);
}

void Run::input_gradient() {
    if (args().router == MOEK_CORE_ROUTER_INPUT && args().router_input == nullptr) {
        const int64_t column_blocks = blocks_of(args().d_in, kCoreMergeColumns);
        const double work = static_cast<double>(args().T) * static_cast<double>(args().d_in) *
                            static_cast<double>(args().r + args().E) / 8;
        for_blocks(token_blocks() * column_blocks, work, [&](int64_t block, void* scratch) {
            kernels_.input_gradient(call_, block / column_blocks, block % column_blocks, scratch);
        });
        return;
    }
    GemmResult dx = result_in(args().dx, args().x_dtype, args().dx_stride, accumulates_output(args()));
    dx.hook = input_hook();
    multiply(args().T, args().d_in, args().r, saved_rows(call_.du, args().r),
             columns_of(args().A, args().weight_dtype, args().A_stride), dx);
}

void Run::weight_gradients() {
    if (args().dB != nullptr) {
        // As dB^T, whatever the layout: its bits are the same, and dy is read in rows.
        GemmResult dB = gradient(args().dB, args().dB_stride);
        dB.row_major = args().b_layout == MOEK_B_LAYOUT_RANK_BY_OUT;
        multiply(args().r, args().d_out, args().T, saved_columns(call_.v, args().r, core_hook()),
                 columns_of(args().dy, args().y_dtype, args().dy_stride), dB, args().scale);
    }
    if (args().dC != nullptr) {
        multiply(args().E * args().r, args().r, args().T, columns_of(nullptr, accumulator_, 0, weighted_ranks_hook()),
                 saved_columns(call_.dv, args().r), gradient(args().dC, args().r));
    }
    if (args().dA != nullptr) {
        RowFilter filter = input_dropout_;
        filter.p = weights_;
        multiply(args().r, args().d_in, args().T, saved_columns(call_.du, args().r),
                 columns_of(args().x, args().x_dtype, args().x_stride, hook_of(filter)),
                 gradient(args().dA, args().dA_stride));
    }
    if (args().dW_g != nullptr) {
        const bool core = args().router == MOEK_CORE_ROUTER_CORE;
        const RowFilter filter = {{}, core ? args().r : args().d_in, weights_, args().E};
        const GemmOperand source =
            core ? saved_columns(call_.u, args().r, hook_of(filter))
                 : columns_of(router_source(args()), args().x_dtype, router_source_stride(args()), hook_of(filter));
        multiply(args().E, core ? args().r : args().d_in, args().T, saved_columns(call_.dl, args().E), source,
                 gradient(args().dW_g, args().dW_g_stride));
    }
}

void Run::backward() {
    const bool past_cores = args().dx != nullptr || args().drouter_input != nullptr || args().dA != nullptr ||
                            args().dW_g != nullptr || args().dp != nullptr;
    if (past_cores || args().dC != nullptr) {
        GemmResult dv = result_in(call_.dv, accumulator_, args().r);
        dv.hook = core_hook();
        multiply(args().T, args().r, args().d_out, rows_of(args().dy, args().y_dtype, args().dy_stride),
                 b_operand(false), dv, args().scale);
    }
    if (past_cores) {
        const double work = static_cast<double>(args().T) * static_cast<double>(args().E) *
                            static_cast<double>(args().r) * static_cast<double>(args().r) / 8;
        std::atomic<bool> any_weighs_nothing = false;
        for_blocks(token_blocks(), work, [&](int64_t block, void* scratch) {
            if (kernels_.mix_back(call_, block, scratch)) any_weighs_nothing = true;
        });
        if (any_weighs_nothing) weights_ = call_.p;
    }
    weight_gradients();
    if (args().dx != nullptr) input_gradient();
    if (args().drouter_input != nullptr) {
        multiply(
            args().T, args().d_in, args().E, saved_rows(call_.dl, args().E),
            columns_of(args().W_g, args().router_dtype, args().W_g_stride),
            result_in(args().drouter_input, args().x_dtype, args().drouter_input_stride, accumulates_output(args())));
    }
}

}  // namespace

moek_status core_merge_forward_workspace(void* state, const moek_core_merge_args* args, uint64_t* out_bytes) {
    *out_bytes = Run(context_of(state), *args).place_forward(nullptr);
    return MOEK_STATUS_CODE_OK;
}

moek_status core_merge_forward(void* state, const moek_core_merge_args* args, void* workspace, void*) {
    if (args->T == 0) return MOEK_STATUS_CODE_OK;
    Run run(context_of(state), *args);
    run.place_forward(workspace);
    run.forward();
    return MOEK_STATUS_CODE_OK;
}

moek_status core_merge_backward_workspace(void* state, const moek_core_merge_args* args, uint64_t* out_bytes) {
    *out_bytes = Run(context_of(state), *args).place_backward(nullptr);
    return MOEK_STATUS_CODE_OK;
}

moek_status core_merge_backward(void* state, const moek_core_merge_args* args, void* workspace, void*) {
    Run run(context_of(state), *args);
    run.place_backward(workspace);
    run.backward();
    return MOEK_STATUS_CODE_OK;
}

}  // namespace moek::cpu
