// Backward of core_merge: dv = scale dropout'(dY B), back through cores and router by tiles of tokens, then a product for each
// gradient that is asked for:
//
//   dB = dY^T scale dropout(v),   dC = (p (x) u)^T dv,   [dA; dW_g] = [du, dl]^T x~,   dx (+)= [du, dl] [A; W_g]
#include "cuda/common/workspace.hpp"
#include "cuda/core_merge/core_gradient.hpp"
#include "cuda/core_merge/core_merge.hpp"
#include "cuda/core_merge/mix_back.hpp"
#include "cuda/core_merge/operands.hpp"
#include "cuda/gemm/expand.hpp"
#include "cuda/gemm/shrink.hpp"
#include "cuda/gemm/weight_gradient.hpp"

namespace moek::cuda {
namespace {

class Backward : CoreMergeOperands {
  public:
    Backward(const Device& device, const moek_core_merge_args& given, void* memory)
        : CoreMergeOperands(given), device_(device), workspace_(memory) {
        const bool past_router =
            args.dx != nullptr || args.drouter_input != nullptr || args.dA != nullptr || args.dW_g != nullptr;
        back_.past_cores = past_router || args.dp != nullptr;
        back_.pitch = pitch;
        back_.live = workspace_.take<uint8_t>(count(1));
        back_.dropout = core_dropout;
        back_.types = types;
        back_.plan = plan;
        wants_dv_ = back_.past_cores || args.dC != nullptr;
        if (wants_dv_) {
            down_.T = args.T;
            down_.depth = static_cast<int32_t>(args.d_out);
            down_.columns = static_cast<int32_t>(args.r);
            down_.types = types;
            down_.part[0] = {dy(), b(false), 0};
            plan_shrink(device, cut(), down_);
            down_.partials = workspace_.take<float>(static_cast<uint64_t>(down_.plan.splits) * count(args.r));
            back_.partials = down_.partials;
            back_.splits = down_.plan.splits;
            back_.dv_rows = workspace_.take_bytes(rows_bytes(pitch));
        }
        if (args.dB != nullptr) back_.vd_rows = workspace_.take_bytes(rows_bytes(pitch));
        if (args.dW_g != nullptr && from_core()) back_.u_rows = workspace_.take_bytes(rows_bytes(pitch));
        if (back_.past_cores) {
            back_.du = workspace_.take<float>(count(args.r));
            back_.dp = workspace_.take<float>(static_cast<uint64_t>(back_.dp_parts()) * count(args.E));
        }
        if (past_router) {
            back_.router_column = static_cast<int32_t>(pitch);
            back_.d_pitch = routed() ? operand_pitch(pitch + args.E) : pitch;
            back_.d_rows = workspace_.take_bytes(rows_bytes(back_.d_pitch));
        }
        make_weight_gradients();
    }

    uint64_t workspace_bytes() const { return workspace_.bytes(); }

    void run(cudaStream_t stream) const {
        if (args.T > 0) {
            if (wants_dv_) run_shrink(down_, stream);
            run_mix_back(args, back_, stream);
        }
        if (args.dC != nullptr) run_core_gradient(args, core_gradient_, stream);
        for (int i = 0; i < gradient_count_; ++i) run_weight_gradient(gradient_[i], stream);
        if (args.T > 0) run_token_gradients(stream);
    }

  private:
    bool routed() const { return args.router != MOEK_CORE_ROUTER_CALLER; }
    int32_t r() const { return static_cast<int32_t>(args.r); }
    int32_t E() const { return static_cast<int32_t>(args.E); }

    TokenOperand of_ranks(const void* rows) const { return {rows, pitch, r(), nullptr, {}}; }
    // du, dl, or both with the gap between them.
    TokenOperand du() const { return {back_.d_rows, back_.d_pitch, r(), nullptr, {}}; }
    TokenOperand dl() const {
        const char* data = static_cast<const char*>(back_.d_rows);
        if (data != nullptr) data += int64_t{back_.router_column} * operand_bytes;
        return {data, back_.d_pitch, E(), nullptr, {}};
    }
    TokenOperand du_and_dl() const { return {back_.d_rows, back_.d_pitch, back_.router_column + E(), nullptr, {}}; }

    // `left` times `tokens`. Silent tokens are passed over: their rows of `left` are zeros.
    WeightGradient& add_gradient(const TokenOperand& left, TokenOperand tokens) {
        WeightGradient& gradient = gradient_[gradient_count_++];
        tokens.live = back_.live;
        gradient.left = left;
        gradient.tokens = tokens;
        gradient.T = args.T;
        gradient.types = types;
        gradient.gradient_dtype = args.grad_dtype;
        gradient.accumulate = has_flag(MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS);
        plan_weight_gradient(device_, gradient);
        gradient.partials = workspace_.take<float>(gradient.partial_count());
        return gradient;
    }

    void make_weight_gradients() {
        if (args.dC != nullptr) {
            TokenOperand dv = of_ranks(back_.dv_rows);
            dv.live = back_.live;
            core_gradient_ = make_core_gradient(device_, args, types, dv);
            core_gradient_.partials = workspace_.take<float>(core_gradient_.partial_count());
        }
        if (args.dB != nullptr) {
            add_gradient(of_ranks(back_.vd_rows), dy()).target[0] = {args.dB, args.dB_stride, 0, r(),
                                                                     args.b_layout == MOEK_B_LAYOUT_OUT_BY_RANK};
        }
        const GradientTarget of_a = {args.dA, args.dA_stride, 0, r(), false};
        const GradientTarget of_w_g = {args.dW_g, args.dW_g_stride, 0, E(), false};
        if (args.dA != nullptr && args.dW_g != nullptr && stacked()) {
            WeightGradient& both = add_gradient(du_and_dl(), x());
            both.target[0] = of_a;
            both.target[1] = of_w_g;
            both.target[1].first_column = back_.router_column;
            both.targets = 2;
            return;
        }
        if (args.dA != nullptr) add_gradient(du(), x()).target[0] = of_a;
        if (args.dW_g != nullptr) {
            add_gradient(dl(), from_core() ? of_ranks(back_.u_rows) : router_input()).target[0] = of_w_g;
        }
    }

    void run_token_gradients(cudaStream_t stream) const {
        Expand up;
        up.T = args.T;
        up.columns = static_cast<int32_t>(args.d_in);
        up.types = types;
        up.accumulate = has_flag(MOEK_CALL_FLAG_ACCUMULATE_OUTPUT);
        const ExpandTerm through_a = {du(), a(WeightOrder::kDepthByLine)};
        const ExpandTerm through_router = {dl(), w_g(WeightOrder::kDepthByLine)};
        if (args.dx != nullptr) {
            up.term[0] = through_a;
            up.mask = ExpandMask::kEverything;
            up.dropout = input_dropout;
            if (stacked()) {
                up.term[0] = {du_and_dl(), a_and_w_g(WeightOrder::kDepthByLine, back_.router_column)};
            } else if (from_input() && args.router_input == nullptr) {
                // The router sees x without its dropout.
                up.term[1] = through_router;
                up.terms = 2;
                up.mask = ExpandMask::kFirstTerm;
            }
            up.y = args.dx;
            up.y_stride = args.dx_stride;
            run_expand(up, stream);
        }
        if (args.drouter_input != nullptr) {
            up.term[0] = through_router;
            up.terms = 1;
            up.y = args.drouter_input;
            up.y_stride = args.drouter_input_stride;
            up.mask = ExpandMask::kNothing;
            run_expand(up, stream);
        }
    }

    const Device& device_;
    Workspace workspace_;
    Shrink down_;
    bool wants_dv_ = false;
    MixBack back_;
    WeightGradient core_gradient_;
    WeightGradient gradient_[3];
    int gradient_count_ = 0;
};

}  // namespace

moek_status core_merge_backward_workspace(void* state, const moek_core_merge_args* args, uint64_t* out_bytes) {
    return guarded([&] { *out_bytes = Backward(device_of(state), *args, nullptr).workspace_bytes(); });
}

moek_status core_merge_backward(void* state, const moek_core_merge_args* args, void* workspace, void* stream) {
    return guarded([&] {
        const Device& device = device_of(state);
        const DeviceGuard guard(device);
        Backward(device, *args, workspace).run(stream_of(stream));
    });
}

}  // namespace moek::cuda
