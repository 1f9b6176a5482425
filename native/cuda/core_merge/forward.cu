// Forward of core_merge: [u, logits] = x~ [A; W_g]^T, then p and v by tiles of tokens, y (+)= scale dropout(v) B^T. Three
// launches, or four with more ranks than a block takes.
#include "cuda/common/workspace.hpp"
#include "cuda/core_merge/core_merge.hpp"
#include "cuda/core_merge/mix.hpp"
#include "cuda/core_merge/operands.hpp"
#include "cuda/gemm/expand.hpp"
#include "cuda/gemm/shrink.hpp"

namespace moek::cuda {
namespace {

class Forward : CoreMergeOperands {
  public:
    Forward(const Device& device, const moek_core_merge_args& given, void* memory)
        : CoreMergeOperands(given), workspace_(memory) {
        const int32_t r = static_cast<int32_t>(args.r);
        down_.T = args.T;
        down_.depth = static_cast<int32_t>(args.d_in);
        down_.columns = static_cast<int32_t>(args.r + (from_input() ? args.E : 0));
        down_.types = types;
        if (stacked()) {
            down_.part[0] = {x(), a_and_w_g(WeightOrder::kDepthInLine, args.r), 0};
        } else {
            down_.part[0] = {x(), a(WeightOrder::kDepthInLine), 0};
            if (from_input()) {
                down_.part[1] = {router_input(), w_g(WeightOrder::kDepthInLine), r};
                down_.parts = 2;
            }
        }
        plan_shrink(device, cut(), down_);
        down_.partials = workspace_.take<float>(static_cast<uint64_t>(down_.plan.splits) * count(down_.columns));
        mix_.partials = down_.partials;
        mix_.splits = down_.plan.splits;
        mix_.columns = down_.columns;
        mix_.u = static_cast<float*>(args.u);
        if (mix_.u == nullptr && from_core()) mix_.u = workspace_.take<float>(count(args.r));
        mix_.p = static_cast<float*>(args.p);
        if (mix_.p == nullptr) mix_.p = workspace_.take<float>(count(args.E));
        mix_.u_rows = workspace_.take_bytes(rows_bytes(pitch));
        mix_.vd_rows = workspace_.take_bytes(rows_bytes(pitch));
        mix_.pitch = pitch;
        mix_.live = workspace_.take<uint8_t>(count(1));
        mix_.dropout = core_dropout;
        mix_.types = types;
        mix_.plan = plan;
    }

    uint64_t workspace_bytes() const { return workspace_.bytes(); }

    void run(cudaStream_t stream) const {
        if (args.T == 0) return;
        run_shrink(down_, stream);
        run_mix(args, mix_, stream);

        Expand up;
        up.term[0] = {{mix_.vd_rows, pitch, static_cast<int32_t>(args.r), nullptr, {}}, b(true)};
        up.T = args.T;
        up.columns = static_cast<int32_t>(args.d_out);
        up.types = types;
        up.y = args.y;
        up.y_stride = args.y_stride;
        up.accumulate = has_flag(MOEK_CALL_FLAG_ACCUMULATE_OUTPUT);
        run_expand(up, stream);
    }

  private:
    Workspace workspace_;
    Shrink down_;
    Mix mix_;
};

}  // namespace

moek_status core_merge_forward_workspace(void* state, const moek_core_merge_args* args, uint64_t* out_bytes) {
    return guarded([&] { *out_bytes = Forward(device_of(state), *args, nullptr).workspace_bytes(); });
}

moek_status core_merge_forward(void* state, const moek_core_merge_args* args, void* workspace, void* stream) {
    return guarded([&] {
        const Device& device = device_of(state);
        const DeviceGuard guard(device);
        Forward(device, *args, workspace).run(stream_of(stream));
    });
}

}  // namespace moek::cuda
