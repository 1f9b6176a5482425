#include "core/rank_lora/plan.hpp"

namespace moek {
namespace {

// Whether the router's gradient vanishes outside the selection: everything but a softmax whose sum over all ranks is
// felt by the weights.
bool has_sparse_logit_gradient(const moek_rank_lora_args& args) {
    if (args.score != MOEK_GATE_SCORE_SOFTMAX) return true;
    return args.normalize != MOEK_GATE_NORMALIZE_NONE && args.bias_mode != MOEK_BIAS_MODE_WEIGHT && args.eps == 0;
}

}  // namespace

RankLoraPlan plan_rank_lora(const moek_rank_lora_args& args) {
    // A selected rank costs a sparse product about what a rank costs a dense one, but a matrix product needs no index
    // and stores nothing in its inner loop: the two meet between r / 2 and r.
    const bool few = 2 * args.k <= args.r;
    const bool needs_all_activations = args.gate != MOEK_RANK_GATE_ROUTER && args.gate != MOEK_RANK_GATE_CALLER;
    RankLoraPlan plan;
    plan.sparse_down = few && !needs_all_activations;
    plan.sparse_up = few;
    plan.sparse_du = few && args.gate != MOEK_RANK_GATE_ACTIVATION_SOFTMAX;
    plan.sparse_dz = few && has_sparse_logit_gradient(args);
    return plan;
}

}  // namespace moek
