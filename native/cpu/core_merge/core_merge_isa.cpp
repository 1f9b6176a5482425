// What core_merge computes beside plain products. Neither the merged core of a token nor the products of u with all
// cores are ever stored for more than a block of tokens:
//   forward   v = w [C_1; ...; C_E] with w = p (x) u [T, E r], a product whose left operand is made while it is packed
//   backward  Q = dv [C_1; ...; C_E]^T [T, E r] block by block, then dp_e = Q_e . u and du = sum_e p_e Q_e;
//             dC = w^T dv with the same w
#include "cpu/common/convert.hpp"
#include "cpu/common/gemm_isa.hpp"
#include "cpu/common/simd.hpp"
#include "cpu/common/vector_math.hpp"
#include "cpu/core_merge/kernels.hpp"
#include "cpu/core_merge/softmax_lanes.hpp"

namespace moek::cpu::MOEK_ISA_NAME {
namespace {

inline int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// ---------------------------------------------------------------------------------------------------------------------
// Hooks
// ---------------------------------------------------------------------------------------------------------------------

// Instead of the member function, which is no part of this namespace (see the rule in native/CMakeLists.txt).
bool is_active(const Dropout& dropout) {
    return dropout.p > 0;
}

template <class Acc>
bool weighs_nothing(const Acc* p, int64_t E) {
    for (int64_t e = 0; e < E; ++e) {
        if (p[e] != 0) return false;
    }
    return true;
}

// Multiplies elements of row t of a matrix with d columns by their factors.
template <class Acc>
void drop_run(const Dropout& dropout, int64_t d, int64_t t, int64_t first, int64_t count, Acc* values) {
    constexpr int64_t kChunk = 256;
    Acc factors[kChunk];
    for (int64_t start = 0; start < count; start += kChunk) {
        const int64_t n = least(kChunk, count - start);
        dropout_factors(dropout, static_cast<uint64_t>(t * d + first + start), n, factors);
        for (int64_t i = 0; i < n; ++i) values[start + i] *= factors[i];
    }
}

template <class Acc>
void filter_rows(const void* state, int64_t t, int64_t first, int64_t count, void* values) {
    const RowFilter& filter = *static_cast<const RowFilter*>(state);
    Acc* const run = static_cast<Acc*>(values);
    if (filter.p != nullptr && weighs_nothing(static_cast<const Acc*>(filter.p) + t * filter.E, filter.E)) {
        for (int64_t i = 0; i < count; ++i) run[i] = 0;
    } else if (is_active(filter.dropout)) {
        drop_run(filter.dropout, filter.d, t, first, count, run);
    }
}

template <class Acc>
void weighted_ranks(const void* state, int64_t t, int64_t first, int64_t count, void* values) {
    const WeightedRanks& w = *static_cast<const WeightedRanks*>(state);
    const Acc* const u = static_cast<const Acc*>(w.u) + t * w.u_stride;
    const Acc* const p = static_cast<const Acc*>(w.p) + t * w.E;
    Acc* out = static_cast<Acc*>(values);
    int64_t e = first / w.r;
    int64_t i = first % w.r;
    for (int64_t rest = count; rest > 0; ++e, i = 0) {
        const int64_t n = least(w.r - i, rest);
        // Not 0 * u: a u that is NaN has no weight either.
        for (int64_t j = 0; j < n; ++j) out[j] = p[e] == 0 ? 0 : p[e] * u[i + j];
        out += n;
        rest -= n;
    }
}

// Finishes a block of dx: its dropout, then what came around it through the router. The block starts at (t0, column0).
template <class Acc>
struct FinishInputGradient {
    Dropout dropout;
    int64_t d;
    const Acc* through_router;  // dense with `columns`
    int64_t columns;
    int64_t t0;
    int64_t column0;

    static void apply(const void* state, int64_t row, int64_t first, int64_t count, void* values) {
        const FinishInputGradient& self = *static_cast<const FinishInputGradient*>(state);
        Acc* const dx = static_cast<Acc*>(values);
        if (is_active(self.dropout)) drop_run(self.dropout, self.d, self.t0 + row, self.column0 + first, count, dx);
        const Acc* const add = self.through_router + row * self.columns + first;
        for (int64_t i = 0; i < count; ++i) dx[i] += add[i];
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// Small pieces
// ---------------------------------------------------------------------------------------------------------------------

// A product computed by this thread alone.
void multiply(const Gemm& gemm, void* scratch) {
    const GemmPlan plan = plan_gemm(gemm);
    const int64_t tasks = plan.row_tasks * plan.col_tasks;
    for (int64_t task = 0; task < tasks; ++task) gemm_task(gemm, plan, task, scratch);
}

template <class Acc>
Acc* block_of(void* scratch) {
    const int64_t gemm_bytes = gemm_task_scratch_bytes(sizeof(Acc) == 8);
    return static_cast<Acc*>(static_cast<void*>(static_cast<char*>(scratch) + gemm_bytes));
}

template <class Acc>
Acc dot(const Acc* a, const Acc* b, int64_t count) {
    using V = Vec<Acc>;
    typename V::Reg sum = V::zero();
    int64_t i = 0;
    for (; i + V::kLanes <= count; i += V::kLanes) sum = V::fma(V::load(a + i), V::load(b + i), sum);
    if (i < count) {
        const int rest = static_cast<int>(count - i);
        sum = V::fma(V::load_partial(a + i, rest), V::load_partial(b + i, rest), sum);
    }
    return sum_lanes<V>(sum);
}

// target += factor * source
template <class Acc>
void add_scaled(Acc factor, const Acc* source, int64_t count, Acc* target) {
    using V = Vec<Acc>;
    const typename V::Reg factors = V::set1(factor);
    int64_t i = 0;
    for (; i + V::kLanes <= count; i += V::kLanes) {
        V::store(target + i, V::fma(factors, V::load(source + i), V::load(target + i)));
    }
    if (i < count) {
        const int rest = static_cast<int>(count - i);
        V::store_partial(target + i,
                         V::fma(factors, V::load_partial(source + i, rest), V::load_partial(target + i, rest)), rest);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Routing
// ---------------------------------------------------------------------------------------------------------------------

// p = softmax(z / temperature); a NaN counts as -inf. False when there was a NaN. `p` may be `z`.
template <class Acc>
bool softmax_row(const Acc* z, Acc* p, int64_t E, Acc temperature) {
    bool clean = true;
    for (int64_t e = 0; e < E; ++e) {
        const bool is_nan = z[e] != z[e];
        clean = clean && !is_nan;
        p[e] = is_nan ? -kInfinity<Acc> : z[e] / temperature;
    }
    const Acc largest = largest_of(p, E);
    if (largest == -kInfinity<Acc>) {
        for (int64_t e = 0; e < E; ++e) p[e] = 0;
        return clean;
    }
    map_lanes(p, p, E, [largest](Acc score) {
        const Acc below = score - largest;
        // inf - inf is NaN; the limit shares the weight among the infinite scores.
        return exponential(below != below ? Acc{0} : below);
    });
    const Acc factor = 1 / sum_of(p, E);
    for (int64_t e = 0; e < E; ++e) p[e] *= factor;
    return clean;
}

template <class Acc>
int64_t route(const CoreMergeCall& call, int64_t block, void* scratch) {
    const moek_core_merge_args& args = call.args;
    const int64_t t0 = block * kCoreMergeTokens;
    const int64_t tokens = least(kCoreMergeTokens, args.T - t0);
    const int32_t accumulator = accumulator_of(call.f64);
    Acc* const logits = static_cast<Acc*>(call.logits) + t0 * call.logits_stride;
    Acc* const p = static_cast<Acc*>(call.p) + t0 * args.E;
    if (args.router == MOEK_CORE_ROUTER_CORE) {
        const Acc* const u = static_cast<const Acc*>(call.u) + t0 * call.u_stride;
        multiply(product(call.f64, tokens, args.E, args.r, rows_of(u, accumulator, call.u_stride),
                         rows_of(args.W_g, args.router_dtype, args.W_g_stride),
                         result_in(logits, accumulator, call.logits_stride)),
                 scratch);
    }
    int64_t nan_row = -1;
    if constexpr (sizeof(Acc) == sizeof(float)) {
        if (args.E <= kMostSoftmaxLaneExperts) {
            nan_row =
                softmax_lanes(logits, call.logits_stride, p, tokens, args.E, static_cast<float>(args.temperature));
            return nan_row < 0 ? nan_row : t0 + nan_row;
        }
    }
    for (int64_t t = 0; t < tokens; ++t) {
        const bool clean =
            softmax_row(logits + t * call.logits_stride, p + t * args.E, args.E, static_cast<Acc>(args.temperature));
        if (!clean && nan_row < 0) nan_row = t0 + t;
    }
    return nan_row;
}

// ---------------------------------------------------------------------------------------------------------------------
// Back through the cores and the router
// ---------------------------------------------------------------------------------------------------------------------

// Columns of Q from `first` on that are computed at once: whole cores, or a part of one that is wider than a block.
inline int64_t columns_at_once(int64_t first, int64_t r, int64_t E) {
    if (r > kCoreMergeColumns) return least(kCoreMergeColumns, r - first % r);
    return least(kCoreMergeColumns / r * r, E * r - first);
}

template <class Acc>
void softmax_row_back(const Acc* p, Acc* dp_to_dl, int64_t E, Acc temperature) {
    const Acc projection = dot(p, dp_to_dl, E);
    for (int64_t e = 0; e < E; ++e) dp_to_dl[e] = p[e] * (dp_to_dl[e] - projection) / temperature;
}

template <class Acc>
void softmax_back(const Acc* p, Acc* dp_to_dl, int64_t count, int64_t E, Acc temperature) {
    if constexpr (sizeof(Acc) == sizeof(float)) {
        if (E <= kMostSoftmaxLaneExperts) return softmax_lanes_back(p, dp_to_dl, count, E, temperature);
    }
    for (int64_t t = 0; t < count; ++t) softmax_row_back(p + t * E, dp_to_dl + t * E, E, temperature);
}

template <class Acc>
bool mix_back(const CoreMergeCall& call, int64_t block, void* scratch) {
    const moek_core_merge_args& args = call.args;
    const int64_t r = args.r;
    const int64_t E = args.E;
    const int64_t t0 = block * kCoreMergeTokens;
    const int64_t tokens = least(kCoreMergeTokens, args.T - t0);
    const int32_t accumulator = accumulator_of(call.f64);
    const Acc* const u = static_cast<const Acc*>(call.u) + t0 * call.u_stride;
    const Acc* const p = static_cast<const Acc*>(call.p) + t0 * E;
    const Acc* const dv = static_cast<const Acc*>(call.dv) + t0 * r;
    Acc* const du = static_cast<Acc*>(call.du) + t0 * r;
    Acc* const dl = static_cast<Acc*>(call.dl) + t0 * E;
    Acc* const Q = block_of<Acc>(scratch);

    for (int64_t i = 0; i < tokens * r; ++i) du[i] = 0;
    for (int64_t i = 0; i < tokens * E; ++i) dl[i] = 0;
    for (int64_t first = 0, columns = 0; first < E * r; first += columns) {
        columns = columns_at_once(first, r, E);
        multiply(product(call.f64, tokens, columns, r, rows_of(dv, accumulator, r),
                         rows_of(element(args.C, args.weight_dtype, first * r), args.weight_dtype, r),
                         result_in(Q, accumulator, columns)),
                 scratch);
        for (int64_t t = 0; t < tokens; ++t) {
            for (int64_t column = 0; column < columns;) {
                const int64_t e = (first + column) / r;
                const int64_t i = (first + column) % r;
                const int64_t n = least(r - i, columns - column);
                const Acc* const Q_e = Q + t * columns + column;
                dl[t * E + e] += dot(Q_e, u + t * call.u_stride + i, n);
                add_scaled(p[t * E + e], Q_e, n, du + t * r + i);
                column += n;
            }
        }
    }
    const bool routed = args.router != MOEK_CORE_ROUTER_CALLER;
    for (int64_t t = 0; t < tokens; ++t) {
        if (!routed || !weighs_nothing(p + t * E, E)) continue;
        for (int64_t e = 0; e < E; ++e) dl[t * E + e] = 0;
    }
    if (args.dp != nullptr) {
        Acc* const dp = static_cast<Acc*>(args.dp) + t0 * E;
        for (int64_t i = 0; i < tokens * E; ++i) dp[i] = dl[i];
    }
    if (routed) softmax_back(p, dl, tokens, E, static_cast<Acc>(args.temperature));
    if (args.router == MOEK_CORE_ROUTER_CORE) {
        multiply(product(call.f64, tokens, r, E, rows_of(dl, accumulator, E),
                         columns_of(args.W_g, args.router_dtype, args.W_g_stride), result_in(du, accumulator, r, true)),
                 scratch);
    }
    bool any_weighs_nothing = false;
    for (int64_t t = 0; t < tokens; ++t) {
        if (!weighs_nothing(p + t * E, E)) continue;
        any_weighs_nothing = true;
        for (int64_t i = 0; i < r; ++i) du[t * r + i] = 0;
    }
    return any_weighs_nothing;
}

// The router's part of dx bypasses the dropout, and both parts are rounded together, once.
template <class Acc>
void input_gradient(const CoreMergeCall& call, int64_t token_block, int64_t column_block, void* scratch) {
    const moek_core_merge_args& args = call.args;
    const int64_t t0 = token_block * kCoreMergeTokens;
    const int64_t column0 = column_block * kCoreMergeColumns;
    const int64_t tokens = least(kCoreMergeTokens, args.T - t0);
    const int64_t columns = least(kCoreMergeColumns, args.d_in - column0);
    const int32_t accumulator = accumulator_of(call.f64);
    const Acc* const du = static_cast<const Acc*>(call.du) + t0 * args.r;
    const Acc* const dl = static_cast<const Acc*>(call.dl) + t0 * args.E;
    Acc* const through_router = block_of<Acc>(scratch);

    multiply(product(call.f64, tokens, columns, args.E, rows_of(dl, accumulator, args.E),
                     columns_of(element(args.W_g, args.router_dtype, column0), args.router_dtype, args.W_g_stride),
                     result_in(through_router, accumulator, columns)),
             scratch);
    const FinishInputGradient<Acc> finish = {input_dropout(args), args.d_in, through_router, columns, t0, column0};
    GemmResult dx = result_in(element(args.dx, args.x_dtype, t0 * args.dx_stride + column0), args.x_dtype,
                              args.dx_stride, (args.flags & MOEK_CALL_FLAG_ACCUMULATE_OUTPUT) != 0);
    dx.hook = {FinishInputGradient<Acc>::apply, &finish};
    multiply(product(call.f64, tokens, columns, args.r, rows_of(du, accumulator, args.r),
                     columns_of(element(args.A, args.weight_dtype, column0), args.weight_dtype, args.A_stride), dx),
             scratch);
}

}  // namespace

CoreMergeKernels core_merge_kernels(bool f64) {
    if (f64) {
        return {weighted_ranks<double>, filter_rows<double>, route<double>, mix_back<double>, input_gradient<double>};
    }
    return {weighted_ranks<float>, filter_rows<float>, route<float>, mix_back<float>, input_gradient<float>};
}

}  // namespace moek::cpu::MOEK_ISA_NAME
