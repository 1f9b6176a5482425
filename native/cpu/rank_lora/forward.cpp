#include <algorithm>
#include <cmath>
#include <limits>

#include "core/dtype.hpp"
#include "cpu/gate/gate.hpp"
#include "cpu/rank_lora/rank_lora.hpp"
#include "cpu/rank_lora/rank_lora_common.hpp"

namespace moek::cpu {
namespace {

// One forward call. Down: the router's logits and the activations. Gate: ids and gates. Up: y.
template <class Acc>
class Forward : RankLora {
  public:
    Forward(Context& given_context, const moek_rank_lora_args& given, void* workspace)
        : RankLora(given_context, given), carver_(workspace) {
        slots_ = take_slots(carver_);
        down_columns_ = (plan.sparse_down ? 0 : args.r) + router_rows;
        down_ = carver_.take<Acc>(args.T, down_columns_);
        if (needs_own_logits()) own_logits_ = carver_.take<Acc>(args.T, args.r);
        u_ = args.u != nullptr ? static_cast<Acc*>(args.u) : carver_.take<Acc>(args.T, args.k);
        h_ = carver_.take<Acc>(args.T, args.k);
        if (!plan.sparse_up) dense_h_ = carver_.take<Acc>(args.T, args.r);
        if (args.gate != MOEK_RANK_GATE_CALLER) {
            const moek_gate_args gate = gate_args();
            uint64_t bytes = 0;
            gate_forward_workspace(&context, &gate, &bytes);
            gate_workspace_ = carver_.take_bytes(1, static_cast<int64_t>(bytes), 1);
        }
    }

    uint64_t workspace_bytes() const { return carver_.bytes(); }

    void run() {
        if (args.gate == MOEK_RANK_GATE_CALLER) check_ids();
        ScratchSlots scratch(slots_, context.pool.thread_count(), slot_bytes());
        down(scratch);
        select();
        if (args.gate_logits != nullptr) save_gate_logits();
        activations(scratch);
        up(scratch);
    }

  private:
    // Whether the gate's logits are not what `down` leaves: repeated, or changed.
    bool needs_own_logits() const {
        return (routed && args.rank_partition > 1) || args.gate == MOEK_RANK_GATE_ACTIVATION_ABSOLUTE ||
               args.gate == MOEK_RANK_GATE_ACTIVATION_SOFTMAX;
    }

    Acc* activation_row(int64_t t) const { return down_ + t * down_columns_; }
    Acc* logit_row(int64_t t) const { return down_ + t * down_columns_ + (plan.sparse_down ? 0 : args.r); }
    Acc bias(int64_t i) const { return args.bias == nullptr ? Acc{0} : static_cast<const Acc*>(args.bias)[i]; }
    int32_t* ids() const { return static_cast<int32_t*>(args.ids); }
    Acc* gates() const { return static_cast<Acc*>(args.gates); }

    void multiply_down(const TokenRows& in, const RowMatrix& rows, const RowMatrix& tail, Acc* out,
                       ScratchSlots& scratch) const {
        const RowMask mask = {in.dropout, args.d_in, nullptr};
        Gemm gemm;
        gemm.M = args.T;
        gemm.N = rows.rows + tail.rows;
        gemm.K = args.d_in;
        gemm.f64 = f64;
        gemm.a = {in.data, in.dtype, in.stride, true, mask.hook(context, f64)};
        gemm.b = {rows.data, args.weight_dtype, rows.stride, true, {}, rows.rows, tail.data, tail.stride};
        gemm.c.data = out;
        gemm.c.dtype = accumulator_dtype(args.x_dtype);
        gemm.c.stride = down_columns_;
        run_gemm(context, gemm, scratch);
    }

    // a = A x~ and z = W_r x~, in one product where both are wanted and read the same.
    void down(ScratchSlots& scratch) const {
        if (plan.sparse_down) {
            if (routed) multiply_down(router_rows_in(), rows_w, {}, down_, scratch);
        } else if (routed && args.router_input == nullptr) {
            multiply_down(x_rows(), rows_a, rows_w, down_, scratch);
        } else {
            multiply_down(x_rows(), rows_a, {}, down_, scratch);
            if (routed) multiply_down(router_rows_in(), rows_w, {}, down_ + args.r, scratch);
        }
    }

    // The op `gate` on the logits of the ranks. Its pointers are set when they are known.
    moek_gate_args gate_args() const {
        moek_gate_args gate = {};
        gate.struct_size = sizeof(gate);
        gate.flags = args.flags & (MOEK_CALL_FLAG_ACCUMULATE_COUNTS | MOEK_CALL_FLAG_STRICT);
        gate.T = args.T;
        gate.E = args.r;
        gate.k = args.k;
        gate.logits_stride = needs_own_logits() ? args.r : down_columns_;
        gate.dlogits_stride = args.r;
        gate.logits_dtype = accumulator_dtype(args.x_dtype);
        gate.select = MOEK_GATE_SELECT_TOP_K;
        gate.temperature = 1;
        gate.weight_scale = 1;
        gate.bias_mode = args.bias_mode;
        gate.bias = args.bias;
        gate.ids = args.ids;
        gate.weights = args.gates;
        gate.counts = args.counts;
        switch (args.gate) {
            case MOEK_RANK_GATE_ROUTER:
                gate.score = args.score;
                gate.normalize = args.normalize;
                gate.eps = args.eps;
                gate.temperature = args.temperature;
                break;
            case MOEK_RANK_GATE_ACTIVATION_SOFTMAX:
                // The threshold comes between the softmax and the normalisation.
                gate.score = MOEK_GATE_SCORE_SOFTMAX;
                gate.temperature = args.temperature;
                break;
            case MOEK_RANK_GATE_ACTIVATION_ABSOLUTE:
                gate.bias_mode = MOEK_BIAS_MODE_NONE;  // is in the logits
                gate.bias = nullptr;
                [[fallthrough]];
            default:
                gate.score = MOEK_GATE_SCORE_IDENTITY;
                break;
        }
        return gate;
    }

    void make_own_logits(int64_t t) const {
        Acc* const logits = own_logits_ + t * args.r;
        if (routed) {
            const Acc* const z = logit_row(t);
            for (int64_t i = 0; i < args.r; ++i) logits[i] = z[i / args.rank_partition];
            return;
        }
        const Acc* const activation = activation_row(t);
        if (args.gate == MOEK_RANK_GATE_ACTIVATION_ABSOLUTE) {
            for (int64_t i = 0; i < args.r; ++i) logits[i] = std::fabs(activation[i] + bias(i));
            return;
        }
        Acc squares = 0;
        for (int64_t i = 0; i < args.r; ++i) squares += activation[i] * activation[i];
        const Acc norm = std::sqrt(squares) + static_cast<Acc>(args.eps);
        for (int64_t i = 0; i < args.r; ++i) logits[i] = norm == 0 ? Acc{0} : activation[i] / norm;
    }

    void count_callers_ids() const {
        if (args.counts == nullptr) return;
        uint32_t* const counts = static_cast<uint32_t*>(args.counts);
        if ((args.flags & MOEK_CALL_FLAG_ACCUMULATE_COUNTS) == 0) std::fill_n(counts, args.r, 0u);
        for (int64_t i = 0; i < args.T * args.k; ++i) ++counts[ids()[i]];
    }

    void select() const {
        if (args.gate == MOEK_RANK_GATE_CALLER) return count_callers_ids();
        if (own_logits_ != nullptr) {
            for_tokens(context, args.T, args.r, [&](int64_t first, int64_t last) {
                for (int64_t t = first; t < last; ++t) make_own_logits(t);
            });
        }
        moek_gate_args gate = gate_args();
        gate.logits = own_logits_ != nullptr ? own_logits_ : routed ? logit_row(0) : down_;
        gate_forward(&context, &gate, gate_workspace_, nullptr);
        if (routed) return;
        for_tokens(context, args.T, 4 * args.k, [&](int64_t first, int64_t last) {
            for (int64_t t = first; t < last; ++t) {
                args.gate == MOEK_RANK_GATE_ACTIVATION_SOFTMAX ? finish_softmax_gates(t) : finish_unit_gates(t);
            }
        });
    }

    // MoRA: drops the gates below the threshold, then normalises what is left.
    void finish_softmax_gates(int64_t t) const {
        Acc* const gate = gates() + t * args.k;
        Acc sum = 0;
        for (int64_t j = 0; j < args.k; ++j) {
            if (gate[j] < static_cast<Acc>(args.threshold)) gate[j] = 0;
            sum += gate[j];
        }
        if (args.normalize == MOEK_GATE_NORMALIZE_NONE) return;
        const Acc total = args.normalize == MOEK_GATE_NORMALIZE_SUM_TO_K ? static_cast<Acc>(args.k) : Acc{1};
        for (int64_t j = 0; j < args.k; ++j) gate[j] = sum == 0 ? Acc{0} : total * gate[j] / sum;
    }

    // FlyLoRA: every selected rank counts as it is, but one whose score is NaN or -infinity weighs nothing.
    void finish_unit_gates(int64_t t) const {
        constexpr Acc kInfinity = std::numeric_limits<Acc>::infinity();
        for (int64_t j = 0; j < args.k; ++j) {
            const int64_t i = ids()[t * args.k + j];
            Acc score = activation_row(t)[i] + bias(i);
            if (args.gate == MOEK_RANK_GATE_ACTIVATION_ABSOLUTE) score = std::fabs(score);
            gates()[t * args.k + j] = score > -kInfinity ? Acc{1} : Acc{0};
        }
    }

    void save_gate_logits() const {
        const int64_t columns = routed ? router_rows : args.r;
        Acc* const saved = static_cast<Acc*>(args.gate_logits);
        for_tokens(context, args.T, columns, [&](int64_t first, int64_t last) {
            for (int64_t t = first; t < last; ++t) {
                std::copy_n(routed ? logit_row(t) : activation_row(t), columns, saved + t * columns);
            }
        });
    }

    // u, and h = scale * gates * u.
    void activations(ScratchSlots& scratch) const {
        if (plan.sparse_down) {
            const RowStack rows = RowStack::one(rows_a, args.weight_dtype);
            run_sparse(context, SparseDot{f64, args.T, args.d_in, args.k, rows, ids(), x_rows(), u_}, scratch);
        }
        for_tokens(context, args.T, 4 * args.k + (plan.sparse_up ? 0 : args.r), [&](int64_t first, int64_t last) {
            if (dense_h_ != nullptr) std::fill_n(dense_h_ + first * args.r, (last - first) * args.r, Acc{0});
            for (int64_t t = first; t < last; ++t) {
                for (int64_t j = 0; j < args.k; ++j) {
                    const int64_t i = t * args.k + j;
                    if (!plan.sparse_down) u_[i] = activation_row(t)[ids()[i]];
                    // A zero gate contributes nothing, whatever u is.
                    const Acc factor = static_cast<Acc>(args.scale) * gates()[i];
                    h_[i] = factor == 0 ? Acc{0} : factor * u_[i];
                    if (dense_h_ != nullptr) dense_h_[t * args.r + ids()[i]] += h_[i];
                }
            }
        });
    }

    void up(ScratchSlots& scratch) const {
        const bool accumulate = (args.flags & MOEK_CALL_FLAG_ACCUMULATE_OUTPUT) != 0;
        if (plan.sparse_up) {
            const RowStack rows = RowStack::one(rows_b, args.weight_dtype);
            run_sparse(context,
                       SparseCombine{f64, args.T, args.d_out, args.k, rows, ids(), h_, args.y, args.y_dtype,
                                     args.y_stride, accumulate, Dropout{}},
                       scratch);
            return;
        }
        Gemm gemm;
        gemm.M = args.T;
        gemm.N = args.d_out;
        gemm.K = args.r;
        gemm.f64 = f64;
        gemm.a = {dense_h_, accumulator_dtype(args.x_dtype), args.r, true};
        gemm.b = {args.B, args.weight_dtype, args.B_stride, rows_b.transposed};
        gemm.c = {args.y, args.y_dtype, args.y_stride, true, accumulate};
        run_gemm(context, gemm, scratch);
    }

    WorkspaceCarver carver_;
    void* slots_ = nullptr;
    int64_t down_columns_ = 0;
    Acc* down_ = nullptr;        // [T, a (unless sparse) and z]
    Acc* own_logits_ = nullptr;  // [T, r]
    Acc* u_ = nullptr;           // [T, k]
    Acc* h_ = nullptr;           // [T, k]
    Acc* dense_h_ = nullptr;     // [T, r]
    void* gate_workspace_ = nullptr;
};

}  // namespace

moek_status rank_lora_forward_workspace(void* state, const moek_rank_lora_args* args, uint64_t* out_bytes) {
    Context& context = context_of(state);
    *out_bytes = 0;
    if (args->T == 0) return MOEK_STATUS_CODE_OK;
    *out_bytes = args->x_dtype == MOEK_DTYPE_F64 ? Forward<double>(context, *args, nullptr).workspace_bytes()
                                                 : Forward<float>(context, *args, nullptr).workspace_bytes();
    return MOEK_STATUS_CODE_OK;
}

moek_status rank_lora_forward(void* state, const moek_rank_lora_args* args, void* workspace, void*) {
    Context& context = context_of(state);
    if (args->T == 0) {
        const bool accumulate = (args->flags & MOEK_CALL_FLAG_ACCUMULATE_COUNTS) != 0;
        if (args->counts != nullptr && !accumulate) std::fill_n(static_cast<int32_t*>(args->counts), args->r, 0);
        return MOEK_STATUS_CODE_OK;
    }
    if (args->x_dtype == MOEK_DTYPE_F64) {
        Forward<double>(context, *args, workspace).run();
    } else {
        Forward<float>(context, *args, workspace).run();
    }
    return MOEK_STATUS_CODE_OK;
}

}  // namespace moek::cpu
