// Backward of rank_lora: dP = dY B, the gradient of the gate by token, then a product for each gradient that is asked for:
// dB = dY^T h, [dA; dW_r] = [du, dz]^T x~, dx (+)= [du, dz] [A; W_r].
#include "core/gemm/cuda_plan.hpp"
#include "cuda/common/workspace.hpp"
#include "cuda/gemm/expand.hpp"
#include "cuda/gemm/shrink.hpp"
#include "cuda/gemm/weight_gradient.hpp"
#include "cuda/rank_lora/gradient_rows.hpp"
#include "cuda/rank_lora/operands.hpp"
#include "cuda/rank_lora/rank_lora.hpp"

namespace moek::cuda {
namespace {

class Backward : RankLoraOperands {
  public:
    Backward(const Device& device, const moek_rank_lora_args& given, void* memory)
        : RankLoraOperands(given), device_(device), workspace_(memory) {
        const uint64_t T = static_cast<uint64_t>(args.T);
        down_.T = args.T;
        down_.depth = static_cast<int32_t>(args.d_out);
        down_.columns = static_cast<int32_t>(args.r);
        down_.types = types;
        down_.part[0] = {dy(), b(false), 0};
        ShrinkCut cut;
        cut.batch_invariant = has_flag(MOEK_CALL_FLAG_BATCH_INVARIANT);
        plan_shrink(device, cut, down_);
        down_.partials =
            workspace_.take<float>(static_cast<uint64_t>(down_.plan.splits) * T * static_cast<uint64_t>(args.r));
        rows_.partials = down_.partials;
        rows_.splits = down_.plan.splits;
        rows_.router_rows = static_cast<int32_t>(router_rows);
        rows_.router_column = static_cast<int32_t>(routed ? operand_pitch(args.r) : args.r);
        if (args.dB != nullptr) {
            rows_.h_pitch = operand_pitch(args.r);
            rows_.h = take_operand(rows_.h_pitch);
            rows_.h_live = workspace_.take<uint8_t>(T);
        }
        if (args.dA != nullptr || args.dW_r != nullptr || args.dx != nullptr || args.drouter_input != nullptr) {
            rows_.d_pitch = operand_pitch(rows_.router_column + router_rows);
            rows_.d = take_operand(rows_.d_pitch);
            rows_.d_live = workspace_.take<uint8_t>(T);
        }
        make_weight_gradients();
    }

    uint64_t workspace_bytes() const { return workspace_.bytes(); }

    void run(cudaStream_t stream) {
        if (args.T > 0) {
            run_shrink(down_, stream);
            run_gradient_rows(device_, args, rows_, stream);
        }
        for (int i = 0; i < gradient_count_; ++i) run_weight_gradient(gradient_[i], stream);
        if (args.T > 0) run_token_gradients(stream);
    }

  private:
    void* take_operand(int64_t pitch) {
        return workspace_.take_bytes(static_cast<uint64_t>(args.T) * static_cast<uint64_t>(pitch) *
                                     static_cast<uint64_t>(operand_bytes));
    }

    TokenOperand h() const { return {rows_.h, rows_.h_pitch, static_cast<int32_t>(args.r), nullptr, {}}; }
    // du, dz, or both with the gap between them.
    TokenOperand du() const { return {rows_.d, rows_.d_pitch, static_cast<int32_t>(args.r), nullptr, {}}; }
    TokenOperand dz() const {
        const char* data = static_cast<const char*>(rows_.d);
        if (data != nullptr) data += int64_t{rows_.router_column} * operand_bytes;
        return {data, rows_.d_pitch, rows_.router_rows, nullptr, {}};
    }
    TokenOperand du_and_dz() const {
        return {rows_.d, rows_.d_pitch, rows_.router_column + rows_.router_rows, nullptr, {}};
    }

    // `left` times `tokens`; tokens whose rows of `left` are zeros are passed over.
    WeightGradient& add_gradient(const TokenOperand& left, TokenOperand tokens, const uint8_t* live) {
        WeightGradient& gradient = gradient_[gradient_count_++];
        tokens.live = live;
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
        const int32_t r = static_cast<int32_t>(args.r);
        if (args.dB != nullptr) {
            add_gradient(h(), dy(), rows_.h_live).target[0] = {args.dB, args.dB_stride, 0, r,
                                                               args.b_layout == MOEK_B_LAYOUT_OUT_BY_RANK};
        }
        const GradientTarget of_a = {args.dA, args.dA_stride, 0, r, false};
        const GradientTarget of_w_r = {args.dW_r, args.dW_r_stride, 0, rows_.router_rows, false};
        if (args.dA != nullptr && args.dW_r != nullptr && args.router_input == nullptr) {
            WeightGradient& both = add_gradient(du_and_dz(), x(), rows_.d_live);
            both.target[0] = of_a;
            both.target[1] = of_w_r;
            both.target[1].first_column = rows_.router_column;
            both.targets = 2;
            return;
        }
        if (args.dA != nullptr) add_gradient(du(), x(), rows_.d_live).target[0] = of_a;
        if (args.dW_r != nullptr) add_gradient(dz(), router_input(), rows_.d_live).target[0] = of_w_r;
    }

    void run_token_gradients(cudaStream_t stream) const {
        Expand up;
        up.T = args.T;
        up.columns = static_cast<int32_t>(args.d_in);
        up.types = types;
        up.accumulate = has_flag(MOEK_CALL_FLAG_ACCUMULATE_OUTPUT);
        if (args.dx != nullptr) {
            const bool both = routed && args.router_input == nullptr;
            up.term[0] = both ? ExpandTerm{du_and_dz(), a_and_w_r(WeightOrder::kDepthByLine, rows_.router_column)}
                              : ExpandTerm{du(), a(WeightOrder::kDepthByLine)};
            up.y = args.dx;
            up.y_stride = args.dx_stride;
            up.mask = ExpandMask::kEverything;
            up.dropout = dropout;
            run_expand(up, stream);
        }
        if (args.drouter_input != nullptr) {
            up.term[0] = {dz(), w_r(WeightOrder::kDepthByLine)};
            up.y = args.drouter_input;
            up.y_stride = args.drouter_input_stride;
            up.mask = ExpandMask::kNothing;
            run_expand(up, stream);
        }
    }

    const Device& device_;
    Workspace workspace_;
    Shrink down_;
    GradientRows rows_;
    WeightGradient gradient_[3];
    int gradient_count_ = 0;
};

}  // namespace

moek_status rank_lora_backward_workspace(void* state, const moek_rank_lora_args* args, uint64_t* out_bytes) {
    return guarded([&] { *out_bytes = Backward(device_of(state), *args, nullptr).workspace_bytes(); });
}

moek_status rank_lora_backward(void* state, const moek_rank_lora_args* args, void* workspace, void* stream) {
    return guarded([&] {
        const Device& device = device_of(state);
        const DeviceGuard guard(device);
        Backward(device, *args, workspace).run(stream_of(stream));
    });
}

}  // namespace moek::cuda
