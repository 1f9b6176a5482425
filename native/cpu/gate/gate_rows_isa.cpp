#include "cpu/gate/gate_lanes.hpp"
#include "cpu/gate/gate_row.hpp"
#include "cpu/gate/gate_rows.hpp"

namespace moek::cpu::MOEK_ISA_NAME {
namespace {

// The logits of a row in the accumulator type: the row itself, or converted into `buffer`.
template <class Storage>
const accumulator_t<Storage>* logits_row(const moek_gate_args& args, int64_t row, accumulator_t<Storage>* buffer) {
    const Storage* logits = static_cast<const Storage*>(args.logits) + row * args.logits_stride;
    if constexpr (sizeof(Storage) == sizeof(accumulator_t<Storage>)) {
        return logits;
    } else {
        for (int64_t e = 0; e < args.E; ++e) buffer[e] = load(logits[e]);
        return buffer;
    }
}

template <class Storage>
void forward_rows(const moek_gate_args& args, int64_t first, int64_t last, void* memory, int32_t* histogram) {
    using Real = accumulator_t<Storage>;
    const GateRule<Real> rule = rule_of<Real>(args);
    if constexpr (sizeof(Real) == sizeof(float)) {
        if (gate_uses_lanes(rule.E, rule.k, rule.all)) {
            return gate_lanes_forward(args, first, last, histogram);
        }
    }
    Real* buffer = static_cast<Real*>(memory);
    Real* scratch = buffer + args.E;
    int32_t* ids = static_cast<int32_t*>(args.ids);
    Real* weights = static_cast<Real*>(args.weights);
    Real* lse = static_cast<Real*>(args.lse);
    for (int64_t row = first; row < last; ++row) {
        int32_t* row_ids = rule.all ? nullptr : ids + row * args.k;
        gate_row_forward(rule, logits_row<Storage>(args, row, buffer), scratch, row_ids, weights + row * args.k,
                         lse == nullptr ? nullptr : lse + row);
        if (histogram == nullptr) continue;
        for (int64_t j = 0; j < args.k; ++j) ++histogram[row_ids[j]];
    }
}

template <class Storage>
void backward_rows(const moek_gate_args& args, int64_t first, int64_t last, void* memory) {
    using Real = accumulator_t<Storage>;
    const GateRule<Real> rule = rule_of<Real>(args);
    if constexpr (sizeof(Real) == sizeof(float)) {
        if (gate_uses_lanes(rule.E, rule.k, rule.all)) return gate_lanes_backward(args, first, last);
    }
    const bool accumulate = (args.flags & MOEK_CALL_FLAG_ACCUMULATE_OUTPUT) != 0;
    Real* buffer = static_cast<Real*>(memory);
    Real* gradient = buffer + args.E;
    Real* scratch = gradient + args.E;
    static_assert(gate_rows_scratch(1) == 2 + gate_row_scratch(1));
    const int32_t* ids = static_cast<const int32_t*>(args.ids);
    const Real* dweights = static_cast<const Real*>(args.dweights);
    const Real* dlse = static_cast<const Real*>(args.dlse);
    for (int64_t row = first; row < last; ++row) {
        Storage* dlogits = static_cast<Storage*>(args.dlogits) + row * args.dlogits_stride;
        gate_row_backward(rule, logits_row<Storage>(args, row, buffer), rule.all ? nullptr : ids + row * args.k,
                          dweights + row * args.k, dlse == nullptr ? nullptr : dlse + row, scratch, gradient);
        if (accumulate) {
            for (int64_t e = 0; e < args.E; ++e) dlogits[e] = store<Storage>(load(dlogits[e]) + gradient[e]);
        } else {
            for (int64_t e = 0; e < args.E; ++e) dlogits[e] = store<Storage>(gradient[e]);
        }
    }
}

template <class Storage>
int64_t nan_row(const moek_gate_args& args, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
        const Storage* logits = static_cast<const Storage*>(args.logits) + row * args.logits_stride;
        bool found = false;
        for (int64_t e = 0; e < args.E; ++e) {
            const auto value = load(logits[e]);
            found |= value != value;
        }
        if (found) return row;
    }
    return -1;
}

}  // namespace

void gate_forward_rows(const moek_gate_args& args, int64_t first, int64_t last, void* memory, int32_t* histogram) {
    switch (args.logits_dtype) {
        case MOEK_DTYPE_F32:
            return forward_rows<float>(args, first, last, memory, histogram);
        case MOEK_DTYPE_BF16:
            return forward_rows<bf16>(args, first, last, memory, histogram);
        case MOEK_DTYPE_F16:
            return forward_rows<f16>(args, first, last, memory, histogram);
        default:
            return forward_rows<double>(args, first, last, memory, histogram);
    }
}

void gate_backward_rows(const moek_gate_args& args, int64_t first, int64_t last, void* memory) {
    switch (args.logits_dtype) {
        case MOEK_DTYPE_F32:
            return backward_rows<float>(args, first, last, memory);
        case MOEK_DTYPE_BF16:
            return backward_rows<bf16>(args, first, last, memory);
        case MOEK_DTYPE_F16:
            return backward_rows<f16>(args, first, last, memory);
        default:
            return backward_rows<double>(args, first, last, memory);
    }
}

int64_t gate_nan_row(const moek_gate_args& args, int64_t first, int64_t last) {
    switch (args.logits_dtype) {
        case MOEK_DTYPE_F32:
            return nan_row<float>(args, first, last);
        case MOEK_DTYPE_BF16:
            return nan_row<bf16>(args, first, last);
        case MOEK_DTYPE_F16:
            return nan_row<f16>(args, first, last);
        default:
            return nan_row<double>(args, first, last);
    }
}

}  // namespace moek::cpu::MOEK_ISA_NAME
