#pragma once

#include <cstdint>
#include <vector>

#include "moekernels.h"

namespace moek::reference {

/// One gate call in double, all tensors dense and row-major; an empty vector is an absent tensor.
///
/// The oracle of the fast paths: plain loops over the formulas of moek_gate_args, one row at a time, the gradient from
/// explicit Jacobians. It shares no code with them, checks nothing, and does not care about speed.
struct Gate {
    int64_t T = 0;
    int64_t E = 1;
    int64_t k = 1;
    moek_gate_score score = MOEK_GATE_SCORE_SOFTMAX;
    moek_gate_select select = MOEK_GATE_SELECT_TOP_K;
    moek_bias_mode bias_mode = MOEK_BIAS_MODE_NONE;
    moek_gate_normalize normalize = MOEK_GATE_NORMALIZE_NONE;
    double eps = 0;
    double temperature = 1;
    double weight_scale = 1;
    std::vector<double> logits;  // [T, E]
    std::vector<double> bias;    // [E]; empty with MOEK_BIAS_MODE_NONE
};

/// What forward writes, shapes as in moek_gate_args.
struct GateOutput {
    std::vector<int32_t> ids;     // [T, k]; with SELECT_ALL too: 0 .. E - 1
    std::vector<double> weights;  // [T, k]
    std::vector<int32_t> counts;  // [E]
    std::vector<double> lse;      // [T]
};

GateOutput gate_forward(const Gate& call);

/// dlogits [T, E]. `dweights` [T, k]; `dlse` [T] or empty.
std::vector<double> gate_backward(const Gate& call, const GateOutput& saved, const std::vector<double>& dweights,
                                  const std::vector<double>& dlse);

/// The smallest distance between the selection score of a selected and of an unselected expert, or between two selected
/// ones, over all rows: how far rounding may move a score before ids change.
double gate_selection_margin(const Gate& call);

}  // namespace moek::reference
