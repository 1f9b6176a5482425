// Forward of rank_lora: [a, z] = x~ [A; W_r]^T in one product, the gate by token, y (+)= h B^T; three kernels, or two where
// the gate fits into one of the products (core/rank_lora/cuda_plan.hpp).
#include "core/rank_lora/cuda_plan.hpp"
#include "cuda/common/workspace.hpp"
#include "cuda/gemm/expand.hpp"
#include "cuda/gemm/shrink.hpp"
#include "cuda/rank_lora/gate_rows.hpp"
#include "cuda/rank_lora/gated_expand.hpp"
#include "cuda/rank_lora/operands.hpp"
#include "cuda/rank_lora/rank_lora.hpp"
#include "cuda/rank_lora/shrink_gate.hpp"

namespace moek::cuda {
namespace {

class Forward : RankLoraOperands {
  public:
    Forward(const Device& device, const moek_rank_lora_args& given, void* memory)
        : RankLoraOperands(given),
          device_(device),
          plan_(plan_cuda_rank_lora_forward(given, device.sm_count, device.shared_memory_per_block_optin)),
          workspace_(memory) {
        down_.T = args.T;
        down_.depth = static_cast<int32_t>(args.d_in);
        down_.columns = static_cast<int32_t>(args.r + router_rows);
        down_.types = types;
        if (routed && args.router_input == nullptr) {
            down_.part[0] = {x(), a_and_w_r(WeightOrder::kDepthInLine, args.r), 0};
        } else {
            down_.part[0] = {x(), a(WeightOrder::kDepthInLine), 0};
            if (routed) {
                down_.part[1] = {router_input(), w_r(WeightOrder::kDepthInLine), static_cast<int32_t>(args.r)};
                down_.parts = 2;
            }
        }
        ShrinkCut cut;
        cut.batch_invariant = has_flag(MOEK_CALL_FLAG_BATCH_INVARIANT);
        cut.block_columns = plan_.block_columns;
        cut.most_splits = plan_.most_splits;
        plan_shrink(device, cut, down_);
        const uint64_t T = static_cast<uint64_t>(args.T);
        if (plan_.gate != CudaGatePlace::kInShrink) {
            down_.partials = workspace_.take<float>(static_cast<uint64_t>(down_.plan.splits) * T *
                                                    static_cast<uint64_t>(down_.columns));
        }
        if (plan_.gate != CudaGatePlace::kInExpand) {
            h_pitch_ = operand_pitch(args.r);
            h_ = workspace_.take_bytes(T * static_cast<uint64_t>(h_pitch_) * static_cast<uint64_t>(operand_bytes));
        }
    }

    uint64_t workspace_bytes() const { return workspace_.bytes(); }

    void run(cudaStream_t stream) {
        const bool clears = args.counts != nullptr && !has_flag(MOEK_CALL_FLAG_ACCUMULATE_COUNTS);
        if (clears && (args.T == 0 || plan_.gate == CudaGatePlace::kInShrink)) {
            check(cudaMemsetAsync(args.counts, 0, static_cast<size_t>(args.r) * sizeof(int32_t), stream),
                  "cudaMemsetAsync");
        } else if (clears) {
            down_.clear = static_cast<int32_t*>(args.counts);
            down_.clear_count = static_cast<int32_t>(args.r);
        }
        if (args.T == 0) return;

        GateRows rows;
        rows.partials = down_.partials;
        rows.splits = down_.plan.splits;
        rows.columns = down_.columns;
        rows.h = h_;
        rows.h_pitch = h_pitch_;
        Expand up;
        up.term[0] = {{h_, h_pitch_, static_cast<int32_t>(args.r), nullptr, {}}, b(true)};
        up.T = args.T;
        up.columns = static_cast<int32_t>(args.d_out);
        up.types = types;
        up.y = args.y;
        up.y_stride = args.y_stride;
        up.accumulate = has_flag(MOEK_CALL_FLAG_ACCUMULATE_OUTPUT);
        switch (plan_.gate) {
            case CudaGatePlace::kOwnKernel:
                run_shrink(down_, stream);
                run_gate_rows(device_, args, rows, stream);
                run_expand(up, stream);
                break;
            case CudaGatePlace::kInShrink:
                run_shrink_gate(down_, args, rows, stream);
                run_expand(up, stream);
                break;
            case CudaGatePlace::kInExpand:
                run_shrink(down_, stream);
                run_gated_expand(up, args, rows, stream);
                break;
        }
    }

  private:
    const Device& device_;
    const CudaRankLoraPlan plan_;
    Workspace workspace_;
    Shrink down_;
    void* h_ = nullptr;  // [T, h_pitch_], x's dtype
    int64_t h_pitch_ = 0;
};

}  // namespace

moek_status rank_lora_forward_workspace(void* state, const moek_rank_lora_args* args, uint64_t* out_bytes) {
    return guarded([&] { *out_bytes = Forward(device_of(state), *args, nullptr).workspace_bytes(); });
}

moek_status rank_lora_forward(void* state, const moek_rank_lora_args* args, void* workspace, void* stream) {
    return guarded([&] {
        const Device& device = device_of(state);
        const DeviceGuard guard(device);
        Forward(device, *args, workspace).run(stream_of(stream));
    });
}

}  // namespace moek::cuda
