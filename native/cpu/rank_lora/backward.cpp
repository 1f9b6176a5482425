#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/dtype.hpp"
#include "core/error.hpp"
#include "cpu/gate/gate.hpp"
#include "cpu/rank_lora/rank_lora.hpp"
#include "cpu/rank_lora/rank_lora_common.hpp"

namespace moek::cpu {
namespace {

// Gradients to the rows of one matrix (A or W_r) per token: entries of the selected rows, or all of them.
template <class Acc>
struct RowGradient {
    int64_t rows = 0;
    const int32_t* ids = nullptr;  // [T, k]
    Acc* values = nullptr;         // [T, k]
    Acc* dense = nullptr;          // [T, rows], with `dense_stride` between tokens
    int64_t dense_stride = 0;
    unsigned char* dead = nullptr;  // [T]: all of a token's values are 0; only beside `dense`
};

// One backward call: dh from dy and B, dB, then through the gate to dA, dW_r, dx and drouter_input.
template <class Acc>
class Backward : RankLora {
  public:
    Backward(Context& given_context, const moek_rank_lora_args& given, void* workspace)
        : RankLora(given_context, given), carver_(workspace), T_(given.T), k_(given.k), r_(given.r) {
        slots_ = take_slots(carver_);
        dh_ = carver_.take<Acc>(T_, k_);
        if (!plan.sparse_up) {
            all_dh_ = carver_.take<Acc>(T_, r_);
            dead_dy_ = carver_.take<unsigned char>(T_, 1);
        }
        db_ = carver_.take<Acc>(T_, k_);
        dgates_ = args.dgates != nullptr ? static_cast<Acc*>(args.dgates) : carver_.take<Acc>(T_, k_);
        du_.rows = r_;
        du_.ids = ids();
        du_.values = carver_.take<Acc>(T_, k_);
        dz_.rows = router_rows;
        if (routed) take_router_buffers();
        // dx sums the parts of A and W_r in one product, so both are dense when one is.
        const bool stacked = routed && args.router_input == nullptr;
        const bool dense_dx = args.dx != nullptr && (!plan.sparse_du || (stacked && !plan.sparse_dz));
        const bool dense_du = !plan.sparse_du || dense_dx;
        const bool dense_dz = routed && (!plan.sparse_dz || (stacked && dense_dx));
        const int64_t columns = (dense_du ? r_ : 0) + (dense_dz ? router_rows : 0);
        Acc* const dense = carver_.take<Acc>(T_, columns);
        if (dense_du) set_dense(du_, dense, columns);
        if (dense_dz) set_dense(dz_, dense_du && dense != nullptr ? dense + r_ : dense, columns);
        is_dense_dx_ = dense_dx;
        if (stacked && !dense_dx) {
            stacked_ids_ = carver_.take<int32_t>(T_, 2 * k_);
            stacked_values_ = carver_.take<Acc>(T_, 2 * k_);
        }
    }

    uint64_t workspace_bytes() const { return carver_.bytes(); }

    void run() {
        check_ids();
        check_strict();
        ScratchSlots scratch(slots_, context.pool.thread_count(), slot_bytes());
        gradient_of_h(scratch);
        through_h();
        if (args.dB != nullptr) gradient_of_b(scratch);
        if (routed) through_router();
        if (du_.dense != nullptr) fill_dense(du_);
        if (args.gate == MOEK_RANK_GATE_ACTIVATION_SOFTMAX) through_softmax();
        if (stacked_ids_ != nullptr) stack_entries();
        gradients_of_rows(scratch);
        if (args.dx != nullptr) gradient_of_x(scratch);
        if (args.drouter_input != nullptr) gradient_of_router_input(scratch);
    }

  private:
    const int32_t* ids() const { return static_cast<const int32_t*>(args.ids); }
    const Acc* gates() const { return static_cast<const Acc*>(args.gates); }
    const Acc* u() const { return static_cast<const Acc*>(args.u); }
    const Acc* gate_logits() const { return static_cast<const Acc*>(args.gate_logits); }
    bool accumulates_output() const { return (args.flags & MOEK_CALL_FLAG_ACCUMULATE_OUTPUT) != 0; }
    bool accumulates_gradients() const { return (args.flags & MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS) != 0; }
    int32_t accumulator() const { return accumulator_dtype(args.x_dtype); }

    void take_router_buffers() {
        dlogits_ = carver_.take<Acc>(T_, r_);
        if (args.rank_partition > 1) own_logits_ = carver_.take<Acc>(T_, r_);
        int32_t* const rows = carver_.take<int32_t>(T_, k_);
        router_ids_ = rows;
        dz_.ids = rows;
        dz_.values = carver_.take<Acc>(T_, k_);
    }

    void set_dense(RowGradient<Acc>& gradient, Acc* dense, int64_t stride) {
        gradient.dense = dense;
        gradient.dense_stride = stride;
        gradient.dead = carver_.take<unsigned char>(T_, 1);
    }

    void check_strict() const {
        if ((args.flags & MOEK_CALL_FLAG_STRICT) == 0 || args.gate_logits == nullptr) return;
        const int64_t columns = routed ? router_rows : r_;
        for (int64_t i = 0; i < T_ * columns; ++i) {
            if (!std::isnan(gate_logits()[i])) continue;
            throw Error(MOEK_STATUS_CODE_NUMERIC,
                        "gate_logits: got a NaN in row " + std::to_string(i / columns) + " of a strict call");
        }
    }

    // dh = B[:, ids] . dy, without the scale.
    void gradient_of_h(ScratchSlots& scratch) const {
        if (plan.sparse_up) {
            const RowStack rows = RowStack::one(rows_b, args.weight_dtype);
            run_sparse(context, SparseDot{f64, T_, args.d_out, k_, rows, ids(), dy_rows(), dh_}, scratch);
            return;
        }
        Gemm gemm;
        gemm.M = T_;
        gemm.N = r_;
        gemm.K = args.d_out;
        gemm.f64 = f64;
        gemm.a = {args.dy, args.y_dtype, args.dy_stride, true};
        gemm.b = {args.B, args.weight_dtype, args.B_stride, !rows_b.transposed};
        gemm.c = {all_dh_, accumulator(), r_};
        run_gemm(context, gemm, scratch);
    }

    // From dh to the coefficients of dB, to dgates and du. A zero gate passes nothing on, whatever u and dh are.
    void through_h() const {
        const Acc scale = static_cast<Acc>(args.scale);
        for_tokens(context, T_, 8 * k_, [&](int64_t first, int64_t last) {
            for (int64_t i = first * k_; i < last * k_; ++i) {
                if (!plan.sparse_up) dh_[i] = all_dh_[i / k_ * r_ + ids()[i]];
                const Acc dh = scale == 0 ? Acc{0} : scale * dh_[i];
                const Acc gate = gates()[i];
                const Acc factor = scale * gate;
                const Acc dgate = u()[i] * dh;
                db_[i] = factor == 0 ? Acc{0} : factor * u()[i];
                dgates_[i] = gate == 0 && !std::isfinite(dgate) ? Acc{0} : dgate;
                du_.values[i] = gate == 0 ? Acc{0} : gate * dh;
            }
        });
    }

    void gradient_of_b(ScratchSlots& scratch) const {
        if (plan.sparse_up) {
            const ScatterTarget target = {args.dB, args.grad_dtype, r_, args.dB_stride, rows_b.transposed};
            run_sparse(
                context,
                SparseScatter{f64, T_, args.d_out, k_, ids(), db_, dy_rows(), {target, {}}, accumulates_gradients()},
                scratch);
            return;
        }
        // all_dh_ has served; it now holds the coefficients of dB.
        const RowGradient<Acc> coefficients = {r_, ids(), db_, all_dh_, r_, dead_dy_};
        fill_dense(coefficients);
        multiply_rows(coefficients, dy_rows(), args.d_out, args.dB, args.dB_stride, !rows_b.transposed, scratch);
    }

    // Dense rows from entries, and which tokens have none but zeros.
    void fill_dense(const RowGradient<Acc>& gradient) const {
        for_tokens(context, T_, gradient.rows, [&](int64_t first, int64_t last) {
            for (int64_t t = first; t < last; ++t) {
                Acc* const row = gradient.dense + t * gradient.dense_stride;
                std::fill_n(row, gradient.rows, Acc{0});
                for (int64_t j = 0; j < k_; ++j) row[gradient.ids[t * k_ + j]] += gradient.values[t * k_ + j];
                mark_dead(gradient, t);
            }
        });
    }

    void mark_dead(const RowGradient<Acc>& gradient, int64_t t) const {
        const Acc* const row = gradient.dense + t * gradient.dense_stride;
        gradient.dead[t] = std::all_of(row, row + gradient.rows, [](Acc value) { return value == 0; }) ? 1 : 0;
    }

    // The op `gate` backwards, then from ranks to the rows of W_r.
    void through_router() {
        moek_gate_args gate = {};
        gate.struct_size = sizeof(gate);
        gate.T = T_;
        gate.E = r_;
        gate.k = k_;
        gate.logits_stride = r_;
        gate.dlogits_stride = r_;
        gate.logits_dtype = accumulator();
        gate.score = args.score;
        gate.select = MOEK_GATE_SELECT_TOP_K;
        gate.bias_mode = args.bias_mode;
        gate.normalize = args.normalize;
        gate.eps = args.eps;
        gate.temperature = args.temperature;
        gate.weight_scale = 1;
        gate.logits = own_logits_ != nullptr ? own_logits_ : gate_logits();
        gate.bias = args.bias;
        gate.ids = args.ids;
        gate.dweights = dgates_;
        gate.dlogits = dlogits_;
        if (own_logits_ != nullptr) {
            for_tokens(context, T_, r_, [&](int64_t first, int64_t last) {
                for (int64_t t = first; t < last; ++t) {
                    const Acc* const z = gate_logits() + t * router_rows;
                    for (int64_t i = 0; i < r_; ++i) own_logits_[t * r_ + i] = z[i / args.rank_partition];
                }
            });
        }
        gate_backward(&context, &gate, nullptr, nullptr);
        for_tokens(context, T_, 2 * k_ + (dz_.dense == nullptr ? 0 : r_), [&](int64_t first, int64_t last) {
            for (int64_t t = first; t < last; ++t) {
                for (int64_t j = 0; j < k_; ++j) {
                    const int64_t i = t * k_ + j;
                    router_ids_[i] = static_cast<int32_t>(ids()[i] / args.rank_partition);
                    dz_.values[i] = dlogits_[t * r_ + ids()[i]];
                }
                if (dz_.dense == nullptr) continue;
                Acc* const row = dz_.dense + t * dz_.dense_stride;
                std::fill_n(row, router_rows, Acc{0});
                for (int64_t i = 0; i < r_; ++i) row[i / args.rank_partition] += dlogits_[t * r_ + i];
                mark_dead(dz_, t);
            }
        });
    }

    // MoRA: the gates depend on every activation.
    void through_softmax() const {
        for_tokens(context, T_, 20 * r_, [&](int64_t first, int64_t last) {
            for (int64_t t = first; t < last; ++t) {
                add_softmax_gradient(t);
                mark_dead(du_, t);
            }
        });
    }

    // Adds to du the gradient that flows through gates = normalise(softmax(a / (|a| + eps) / temperature)).
    void add_softmax_gradient(int64_t t) const {
        const Acc* const a = gate_logits() + t * r_;
        const Acc* const gate = gates() + t * k_;
        const Acc* const dgate = dgates_ + t * k_;
        Acc* const du = du_.dense + t * du_.dense_stride;
        Acc squares = 0;
        for (int64_t i = 0; i < r_; ++i) squares += a[i] * a[i];
        const Acc norm = std::sqrt(squares);
        const Acc divisor = norm + static_cast<Acc>(args.eps);
        // No gate depends on a token without a finite norm, or on one of zeros without eps.
        if (divisor == 0 || !std::isfinite(divisor)) return;
        const Acc inverse_temperature = 1 / static_cast<Acc>(args.temperature);
        Acc largest = -std::numeric_limits<Acc>::infinity();
        for (int64_t i = 0; i < r_; ++i) largest = std::max(largest, a[i] / divisor);
        const auto exponential = [&](int64_t i) { return std::exp((a[i] / divisor - largest) * inverse_temperature); };
        Acc mass = 0;
        for (int64_t i = 0; i < r_; ++i) mass += exponential(i);

        // v_j: what is normalised, 0 where the threshold struck. dv_j = total / sum (dgate_j - sum_m dgate_m v_m / sum).
        const auto value = [&](int64_t j) {
            const int64_t i = ids()[t * k_ + j];
            const Acc bias = args.bias_mode == MOEK_BIAS_MODE_WEIGHT ? static_cast<const Acc*>(args.bias)[i] : Acc{0};
            return gate[j] == 0 ? Acc{0} : exponential(i) / mass + bias;
        };
        Acc factor = 1;
        Acc mean = 0;
        if (args.normalize != MOEK_GATE_NORMALIZE_NONE) {
            Acc sum = 0;
            for (int64_t j = 0; j < k_; ++j) sum += value(j);
            if (sum == 0) return;
            for (int64_t j = 0; j < k_; ++j) mean += dgate[j] * value(j) / sum;
            factor = (args.normalize == MOEK_GATE_NORMALIZE_SUM_TO_K ? static_cast<Acc>(k_) : Acc{1}) / sum;
        }
        const auto dvalue = [&](int64_t j) { return gate[j] == 0 ? Acc{0} : factor * (dgate[j] - mean); };

        // Through the softmax: ds_i = p_i (dw_i - sum_m p_m dw_m) / temperature; then through the norm:
        // da_i = ds_i / D - a_i (sum_m a_m ds_m) / (D^2 |a|) with D = |a| + eps.
        Acc inner = 0;
        Acc selected = 0;
        for (int64_t j = 0; j < k_; ++j) {
            const int64_t i = ids()[t * k_ + j];
            const Acc p = exponential(i) / mass;
            inner += p * dvalue(j);
            selected += a[i] * p * dvalue(j);
        }
        Acc average = 0;
        for (int64_t i = 0; i < r_; ++i) average += a[i] * (exponential(i) / mass);
        const Acc projection = (selected - inner * average) * inverse_temperature;
        const Acc along = norm == 0 ? Acc{0} : projection / (divisor * divisor * norm);
        for (int64_t i = 0; i < r_; ++i) {
            const Acc ds = -(exponential(i) / mass) * inner * inverse_temperature;
            du[i] += ds / divisor - a[i] * along;
        }
        for (int64_t j = 0; j < k_; ++j) {
            const int64_t i = ids()[t * k_ + j];
            du[i] += (exponential(i) / mass) * dvalue(j) * inverse_temperature / divisor;
        }
    }

    // The entries of A's and W_r's rows side by side, for products with both stacked.
    void stack_entries() const {
        for_tokens(context, T_, 2 * k_, [&](int64_t first, int64_t last) {
            for (int64_t t = first; t < last; ++t) {
                for (int64_t j = 0; j < k_; ++j) {
                    const int64_t from = t * k_ + j;
                    const int64_t to = 2 * t * k_ + j;
                    stacked_ids_[to] = du_.ids[from];
                    stacked_values_[to] = du_.values[from];
                    stacked_ids_[to + k_] = static_cast<int32_t>(r_) + dz_.ids[from];
                    stacked_values_[to + k_] = dz_.values[from];
                }
            }
        });
    }

    // G = coefficients^T in, all rows.
    void multiply_rows(const RowGradient<Acc>& coefficients, const TokenRows& in, int64_t d, void* out,
                       int64_t out_stride, bool row_major, ScratchSlots& scratch) const {
        const RowMask mask = {in.dropout, d, coefficients.dead};
        Gemm gemm;
        gemm.M = coefficients.rows;
        gemm.N = d;
        gemm.K = T_;
        gemm.f64 = f64;
        gemm.a = {coefficients.dense, accumulator(), coefficients.dense_stride, false};
        gemm.b = {in.data, in.dtype, in.stride, false, mask.hook(context, f64)};
        gemm.c = {out, args.grad_dtype, out_stride, row_major, accumulates_gradients()};
        run_gemm(context, gemm, scratch);
    }

    void scatter_rows(const int32_t* entry_ids, const Acc* values, int64_t m, const TokenRows& in,
                      const ScatterTarget& first, const ScatterTarget& second, ScratchSlots& scratch) const {
        run_sparse(
            context,
            SparseScatter{f64, T_, args.d_in, m, entry_ids, values, in, {first, second}, accumulates_gradients()},
            scratch);
    }

    // dA and dW_r.
    void gradients_of_rows(ScratchSlots& scratch) const {
        const ScatterTarget da = {args.dA, args.grad_dtype, r_, args.dA_stride, false};
        const ScatterTarget dw = {args.dW_r, args.grad_dtype, router_rows, args.dW_r_stride, false};
        if (stacked_ids_ != nullptr && args.dA != nullptr && args.dW_r != nullptr && plan.sparse_du && plan.sparse_dz) {
            return scatter_rows(stacked_ids_, stacked_values_, 2 * k_, x_rows(), da, dw, scratch);
        }
        if (args.dA != nullptr && plan.sparse_du) {
            scatter_rows(du_.ids, du_.values, k_, x_rows(), da, {}, scratch);
        } else if (args.dA != nullptr) {
            multiply_rows(du_, x_rows(), args.d_in, args.dA, args.dA_stride, true, scratch);
        }
        if (args.dW_r != nullptr && plan.sparse_dz) {
            scatter_rows(dz_.ids, dz_.values, k_, router_rows_in(), dw, {}, scratch);
        } else if (args.dW_r != nullptr) {
            multiply_rows(dz_, router_rows_in(), args.d_in, args.dW_r, args.dW_r_stride, true, scratch);
        }
    }

    // out (+)= mask(dense [rows | tail])
    void multiply_tokens(const Acc* dense, int64_t stride, const RowMatrix& rows, const RowMatrix& tail,
                         const Dropout& mask, void* out, int64_t out_stride, ScratchSlots& scratch) const {
        const RowMask row_mask = {mask, args.d_in, nullptr};
        Gemm gemm;
        gemm.M = T_;
        gemm.N = args.d_in;
        gemm.K = rows.rows + tail.rows;
        gemm.f64 = f64;
        gemm.a = {dense, accumulator(), stride, true};
        gemm.b = {rows.data, args.weight_dtype, rows.stride, false};
        if (tail.rows != 0) {
            gemm.b.split = rows.rows;
            gemm.b.tail = tail.data;
            gemm.b.tail_stride = tail.stride;
        }
        gemm.c = {out, args.x_dtype, out_stride, true, accumulates_output(), row_mask.hook(context, f64)};
        run_gemm(context, gemm, scratch);
    }

    void gradient_of_x(ScratchSlots& scratch) const {
        const bool with_router = routed && args.router_input == nullptr;
        const RowMatrix tail = with_router ? rows_w : RowMatrix{};
        if (is_dense_dx_) {
            return multiply_tokens(du_.dense, du_.dense_stride, rows_a, tail, dropout, args.dx, args.dx_stride,
                                   scratch);
        }
        run_sparse(context,
                   SparseCombine{f64,
                                 T_,
                                 args.d_in,
                                 with_router ? 2 * k_ : k_,
                                 {{rows_a, tail}, args.weight_dtype},
                                 with_router ? stacked_ids_ : du_.ids,
                                 with_router ? stacked_values_ : du_.values,
                                 args.dx,
                                 args.x_dtype,
                                 args.dx_stride,
                                 accumulates_output(),
                                 dropout},
                   scratch);
    }

    void gradient_of_router_input(ScratchSlots& scratch) const {
        if (!plan.sparse_dz) {
            return multiply_tokens(dz_.dense, dz_.dense_stride, rows_w, {}, Dropout{}, args.drouter_input,
                                   args.drouter_input_stride, scratch);
        }
        run_sparse(
            context,
            SparseCombine{f64, T_, args.d_in, k_, RowStack::one(rows_w, args.weight_dtype), dz_.ids, dz_.values,
                          args.drouter_input, args.x_dtype, args.drouter_input_stride, accumulates_output(), Dropout{}},
            scratch);
    }

    WorkspaceCarver carver_;
    const int64_t T_, k_, r_;
    void* slots_ = nullptr;
    Acc* dh_ = nullptr;                 // [T, k]
    Acc* all_dh_ = nullptr;             // [T, r], dense
    unsigned char* dead_dy_ = nullptr;  // [T]: tokens that dB does not see
    Acc* db_ = nullptr;                 // [T, k]: the coefficients of dB
    Acc* dgates_ = nullptr;             // [T, k]
    Acc* dlogits_ = nullptr;            // [T, r]
    Acc* own_logits_ = nullptr;         // [T, r]: gate_logits, each repeated for its partition
    int32_t* router_ids_ = nullptr;     // [T, k]: rows of W_r
    RowGradient<Acc> du_;               // to A's rows
    RowGradient<Acc> dz_;               // to W_r's rows
    bool is_dense_dx_ = false;
    int32_t* stacked_ids_ = nullptr;  // [T, 2 k]
    Acc* stacked_values_ = nullptr;   // [T, 2 k]
};

void clear_gradient(void* data, int32_t dtype, int64_t rows, int64_t columns, int64_t stride) {
    for (int64_t i = 0; data != nullptr && i < rows; ++i) {
        const size_t element = dtype_size(dtype);
        unsigned char* const row = static_cast<unsigned char*>(data) + static_cast<size_t>(i * stride) * element;
        std::fill_n(row, static_cast<size_t>(columns) * element, static_cast<unsigned char>(0));
    }
}

void clear_gradients(const moek_rank_lora_args& args) {
    const bool out_by_rank = args.b_layout == MOEK_B_LAYOUT_OUT_BY_RANK;
    clear_gradient(args.dA, args.grad_dtype, args.r, args.d_in, args.dA_stride);
    clear_gradient(args.dB, args.grad_dtype, out_by_rank ? args.d_out : args.r, out_by_rank ? args.r : args.d_out,
                   args.dB_stride);
    clear_gradient(args.dW_r, args.grad_dtype, args.r / args.rank_partition, args.d_in, args.dW_r_stride);
}

}  // namespace

moek_status rank_lora_backward_workspace(void* state, const moek_rank_lora_args* args, uint64_t* out_bytes) {
    Context& context = context_of(state);
    *out_bytes = 0;
    if (args->T == 0) return MOEK_STATUS_CODE_OK;
    *out_bytes = args->x_dtype == MOEK_DTYPE_F64 ? Backward<double>(context, *args, nullptr).workspace_bytes()
                                                 : Backward<float>(context, *args, nullptr).workspace_bytes();
    return MOEK_STATUS_CODE_OK;
}

moek_status rank_lora_backward(void* state, const moek_rank_lora_args* args, void* workspace, void*) {
    Context& context = context_of(state);
    if (args->T == 0) {
        if ((args->flags & MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS) == 0) clear_gradients(*args);
        return MOEK_STATUS_CODE_OK;
    }
    if (args->x_dtype == MOEK_DTYPE_F64) {
        Backward<double>(context, *args, workspace).run();
    } else {
        Backward<float>(context, *args, workspace).run();
    }
    return MOEK_STATUS_CODE_OK;
}

}  // namespace moek::cpu
