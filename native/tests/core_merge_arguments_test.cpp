// Bad arguments of core_merge: each is named, and nothing is written.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "tests/support/bad_arguments.hpp"
#include "tests/support/core_merge_call.hpp"

namespace moek::test {
namespace {

using Args = moek_core_merge_args;
using Bad = BadArgument<Args>;

// A call that fails with a message that names `text`.
Bad bad(const std::string& text, std::function<void(Args&)> spoil) {
    return {text, std::move(spoil), ": " + text};
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

// Wrong whatever the pointers: the workspace queries report these too.
std::vector<Bad> bad_values() {
    std::vector<Bad> list = {
        bad("args->struct_size: got 2", [](Args& a) { a.struct_size = 2; }),
        bad("flags: got 64", [](Args& a) { a.flags = 64; }),
        bad("T: got -1", [](Args& a) { a.T = -1; }),
        bad("d_in: got 0", [](Args& a) { a.d_in = 0; }),
        bad("d_out: got 0", [](Args& a) { a.d_out = 0; }),
        bad("r: got 0", [](Args& a) { a.r = 0; }),
        bad("r: got 9223372036854775807", [](Args& a) { a.r = kHuge; }),
        bad("E: got 0", [](Args& a) { a.E = 0; }),
        bad("E: got 4097, expected 1..4096", [](Args& a) { a.E = 4097; }),
        bad("x_dtype: got 4", [](Args& a) { a.x_dtype = 4; }),
        bad("weight_dtype: got -1", [](Args& a) { a.weight_dtype = -1; }),
        bad("router_dtype: got 9", [](Args& a) { a.router_dtype = 9; }),
        bad("y_dtype: got 4", [](Args& a) { a.y_dtype = 4; }),
        bad("grad_dtype: got 4", [](Args& a) { a.grad_dtype = 4; }),
        bad("got (f32, f32, f32, bf16, f32)", [](Args& a) { a.y_dtype = MOEK_DTYPE_BF16; }),
        bad("b_layout: got 2", [](Args& a) { a.b_layout = 2; }),
        bad("router: got 3", [](Args& a) { a.router = 3; }),
        bad("reserved0: got 1", [](Args& a) { a.reserved0 = 1; }),
        bad("reserved: got 1", [](Args& a) { a.reserved[7] = 1; }),
        bad("scale: got nan", [](Args& a) { a.scale = kNan; }),
        bad("temperature: got -1", [](Args& a) { a.temperature = -1; }),
        bad("dropout_p: got 1", [](Args& a) { a.dropout_p = 1; }),
        bad("dropout_core_p: got -0.5", [](Args& a) { a.dropout_core_p = -0.5; }),
    };
    const std::pair<const char*, int64_t Args::*> strides[] = {{"x_stride", &Args::x_stride},
                                                               {"router_input_stride", &Args::router_input_stride},
                                                               {"A_stride", &Args::A_stride},
                                                               {"B_stride", &Args::B_stride},
                                                               {"W_g_stride", &Args::W_g_stride},
                                                               {"y_stride", &Args::y_stride},
                                                               {"dy_stride", &Args::dy_stride},
                                                               {"dx_stride", &Args::dx_stride},
                                                               {"drouter_input_stride", &Args::drouter_input_stride},
                                                               {"dA_stride", &Args::dA_stride},
                                                               {"dB_stride", &Args::dB_stride},
                                                               {"dW_g_stride", &Args::dW_g_stride}};
    for (const auto& [name, field] : strides) {
        list.push_back(bad(std::string(name) + ": got 1", [field = field](Args& a) { a.*field = 1; }));
    }
    return list;
}

std::vector<Bad> bad_inputs() {
    return {
        bad("x: got null", [](Args& a) { a.x = nullptr; }),
        bad("A: got null", [](Args& a) { a.A = nullptr; }),
        bad("B: got null", [](Args& a) { a.B = nullptr; }),
        bad("C: got null", [](Args& a) { a.C = nullptr; }),
        bad("W_g: got null", [](Args& a) { a.W_g = nullptr; }),
        bad("W_g: got 0x",
            [](Args& a) {
                a.router = MOEK_CORE_ROUTER_CALLER;
                a.router_input = a.drouter_input = a.dW_g = nullptr;
            }),
        bad("router_input: got 0x", [](Args& a) { a.router = MOEK_CORE_ROUTER_CORE; }),
        bad("x: got a tensor [9223372036854775807", [](Args& a) { a.T = kHuge; }),
        bad("C: got 0x", [](Args& a) { a.C = static_cast<const char*>(a.C) + 1; }),
    };
}

std::vector<Bad> bad_forward() {
    return {
        bad("p: got null",
            [](Args& a) {
                a.router = MOEK_CORE_ROUTER_CALLER;
                a.router_input = a.W_g = a.p = nullptr;
            }),
        bad("y: got null", [](Args& a) { a.y = nullptr; }),
        bad("y: got memory that overlaps x", [](Args& a) { a.y = const_cast<void*>(a.x); }),
        bad("u: got memory that overlaps C", [](Args& a) { a.u = const_cast<void*>(a.C); }),
        bad("p: got memory that overlaps A", [](Args& a) { a.p = const_cast<void*>(a.A); }),
        bad("v: got memory that overlaps", [](Args& a) { a.v = a.u; }),
    };
}

std::vector<Bad> bad_backward() {
    return {
        bad("u: got null", [](Args& a) { a.u = nullptr; }),
        bad("p: got null", [](Args& a) { a.p = nullptr; }),
        bad("v: got null", [](Args& a) { a.v = nullptr; }),
        bad("dy: got null", [](Args& a) { a.dy = nullptr; }),
        bad("drouter_input: got 0x", [](Args& a) { a.router_input = nullptr; }),
        bad("dW_g: got 0x",
            [](Args& a) {
                a.router = MOEK_CORE_ROUTER_CALLER;
                a.router_input = a.W_g = a.drouter_input = nullptr;
            }),
        bad("dx: got memory that overlaps x", [](Args& a) { a.dx = const_cast<void*>(a.x); }),
        bad("drouter_input: got memory that overlaps router_input",
            [](Args& a) { a.drouter_input = const_cast<void*>(a.router_input); }),
        bad("dA: got memory that overlaps A", [](Args& a) { a.dA = const_cast<void*>(a.A); }),
        bad("dB: got memory that overlaps B", [](Args& a) { a.dB = const_cast<void*>(a.B); }),
        bad("dC: got memory that overlaps C", [](Args& a) { a.dC = const_cast<void*>(a.C); }),
        bad("dW_g: got memory that overlaps W_g", [](Args& a) { a.dW_g = const_cast<void*>(a.W_g); }),
        bad("dp: got memory that overlaps p", [](Args& a) { a.dp = a.p; }),
    };
}

class CoreMergeArguments : public testing::Test {
  protected:
    static CoreMergeCase shape() {
        CoreMergeCase c;
        c.router = MOEK_CORE_ROUTER_INPUT;
        c.separate_input = true;
        c.dtypes = {MOEK_DTYPE_F32, MOEK_DTYPE_F32};
        return c;
    }

    // Runs the function on every list. Its workspace is large enough whatever the args say.
    void expect_errors(moek_status (*function)(moek_context*, const Args*, void*, uint64_t, void*),
                       const std::vector<std::vector<Bad>>& lists) {
        for (const std::vector<Bad>& list : lists) {
            const CoreMergeCall before = good_;
            expect_all_rejected<Args>(
                good_.args, list,
                [&](const Args& args) {
                    return function(context_, &args, workspace_.data(), workspace_.size(), nullptr);
                },
                [&] { return same_bits(good_, before); });
        }
    }

    static bool same_bits(const CoreMergeCall& a, const CoreMergeCall& b) {
        for (Tensor CoreMergeTensors::*tensor : CoreMergeCall::kTensors) {
            if (!(a.*tensor).same_bits(b.*tensor)) return false;
        }
        return true;
    }

    Random random_;
    Context context_;
    CoreMergeCall good_{shape(), random_};
    GuardedBytes workspace_{1 << 24};
};

TEST_F(CoreMergeArguments, OfForward) {
    expect_errors(moek_core_merge_forward, {bad_values(), bad_inputs(), bad_forward()});
}

TEST_F(CoreMergeArguments, OfBackward) {
    ASSERT_EQ(good_.forward(context_), MOEK_STATUS_CODE_OK) << last_error();
    expect_errors(moek_core_merge_backward, {bad_values(), bad_inputs(), bad_backward()});
}

TEST_F(CoreMergeArguments, OfTheWorkspaceQueries) {
    uint64_t bytes = 0;
    auto list = bad_values();
    list.push_back(bad("T: got 9223372036854775807", [](Args& a) {
        a.T = kHuge;
        a.u = nullptr;  // then it lies in the workspace
    }));
    for (const auto query : {moek_core_merge_forward_workspace, moek_core_merge_backward_workspace}) {
        expect_all_rejected<Args>(good_.args, list, [&](const Args& args) { return query(context_, &args, &bytes); });
        const auto invalid = MOEK_STATUS_CODE_INVALID_ARGUMENT;
        MOEK_EXPECT_ERROR(query(context_, &good_.args, nullptr), invalid, "out_bytes: got null");
        MOEK_EXPECT_ERROR(query(nullptr, &good_.args, &bytes), invalid, "context: got null");
        MOEK_EXPECT_ERROR(query(context_, nullptr, &bytes), invalid, "args: got null");
    }
}

TEST_F(CoreMergeArguments, BesideTheStruct) {
    const auto invalid = MOEK_STATUS_CODE_INVALID_ARGUMENT;
    const auto small = MOEK_STATUS_CODE_WORKSPACE_TOO_SMALL;
    const Args* args = &good_.args;
    void* memory = workspace_.data();
    for (const auto call : {moek_core_merge_forward, moek_core_merge_backward}) {
        const auto query =
            call == moek_core_merge_forward ? moek_core_merge_forward_workspace : moek_core_merge_backward_workspace;
        uint64_t needed = 0;
        ASSERT_EQ(query(context_, args, &needed), MOEK_STATUS_CODE_OK) << last_error();
        MOEK_EXPECT_ERROR(call(nullptr, args, memory, needed, nullptr), invalid, "context: got null");
        MOEK_EXPECT_ERROR(call(context_, nullptr, memory, needed, nullptr), invalid, "args: got null");
        MOEK_EXPECT_ERROR(call(context_, args, nullptr, needed, nullptr), invalid, "workspace: got null");
        MOEK_EXPECT_ERROR(call(context_, args, memory, needed - 1, nullptr), small, "workspace_bytes: got");
        if (!on_cuda()) {
            MOEK_EXPECT_ERROR(call(context_, args, memory, needed, memory), invalid, "stream: got 0x");
        }
        MOEK_EXPECT_ERROR(call(context_, args, good_.C.data(), needed, nullptr), invalid,
                          "workspace: got memory that overlaps");
    }
}

}  // namespace
}  // namespace moek::test
