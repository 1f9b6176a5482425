// Bad arguments of core_merge: each is named, and nothing is written.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "core_merge_call.hpp"

namespace moek::test {
namespace {

using Args = moek_core_merge_args;

struct BadArgument {
    std::string text;  // what the message holds
    std::function<void(Args&)> spoil;
};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

// Wrong whatever the pointers: the workspace queries report these too.
std::vector<BadArgument> bad_values() {
    std::vector<BadArgument> list = {
        {"args->struct_size: got 2", [](Args& a) { a.struct_size = 2; }},
        {"flags: got 64", [](Args& a) { a.flags = 64; }},
        {"T: got -1", [](Args& a) { a.T = -1; }},
        {"d_in: got 0", [](Args& a) { a.d_in = 0; }},
        {"d_out: got 0", [](Args& a) { a.d_out = 0; }},
        {"r: got 0", [](Args& a) { a.r = 0; }},
        {"r: got 9223372036854775807", [](Args& a) { a.r = kHuge; }},
        {"E: got 0", [](Args& a) { a.E = 0; }},
        {"E: got 4097, expected 1..4096", [](Args& a) { a.E = 4097; }},
        {"x_dtype: got 4", [](Args& a) { a.x_dtype = 4; }},
        {"weight_dtype: got -1", [](Args& a) { a.weight_dtype = -1; }},
        {"router_dtype: got 9", [](Args& a) { a.router_dtype = 9; }},
        {"y_dtype: got 4", [](Args& a) { a.y_dtype = 4; }},
        {"grad_dtype: got 4", [](Args& a) { a.grad_dtype = 4; }},
        {"got (f32, f32, f32, bf16, f32)", [](Args& a) { a.y_dtype = MOEK_DTYPE_BF16; }},
        {"b_layout: got 2", [](Args& a) { a.b_layout = 2; }},
        {"router: got 3", [](Args& a) { a.router = 3; }},
        {"reserved0: got 1", [](Args& a) { a.reserved0 = 1; }},
        {"reserved: got 1", [](Args& a) { a.reserved[7] = 1; }},
        {"scale: got nan", [](Args& a) { a.scale = kNan; }},
        {"temperature: got -1", [](Args& a) { a.temperature = -1; }},
        {"dropout_p: got 1", [](Args& a) { a.dropout_p = 1; }},
        {"dropout_core_p: got -0.5", [](Args& a) { a.dropout_core_p = -0.5; }},
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
        list.push_back({std::string(name) + ": got 1", [field = field](Args& a) { a.*field = 1; }});
    }
    return list;
}

std::vector<BadArgument> bad_inputs() {
    return {
        {"x: got null", [](Args& a) { a.x = nullptr; }},
        {"A: got null", [](Args& a) { a.A = nullptr; }},
        {"B: got null", [](Args& a) { a.B = nullptr; }},
        {"C: got null", [](Args& a) { a.C = nullptr; }},
        {"W_g: got null", [](Args& a) { a.W_g = nullptr; }},
        {"W_g: got 0x",
         [](Args& a) {
             a.router = MOEK_CORE_ROUTER_CALLER;
             a.router_input = a.drouter_input = a.dW_g = nullptr;
         }},
        {"router_input: got 0x", [](Args& a) { a.router = MOEK_CORE_ROUTER_CORE; }},
        {"x: got a tensor [9223372036854775807", [](Args& a) { a.T = kHuge; }},
        {"C: got 0x", [](Args& a) { a.C = static_cast<const char*>(a.C) + 1; }},
    };
}

std::vector<BadArgument> bad_forward() {
    return {
        {"p: got null",
         [](Args& a) {
             a.router = MOEK_CORE_ROUTER_CALLER;
             a.router_input = a.W_g = a.p = nullptr;
         }},
        {"y: got null", [](Args& a) { a.y = nullptr; }},
        {"y: got memory that overlaps x", [](Args& a) { a.y = const_cast<void*>(a.x); }},
        {"u: got memory that overlaps C", [](Args& a) { a.u = const_cast<void*>(a.C); }},
        {"p: got memory that overlaps A", [](Args& a) { a.p = const_cast<void*>(a.A); }},
        {"v: got memory that overlaps", [](Args& a) { a.v = a.u; }},
    };
}

std::vector<BadArgument> bad_backward() {
    return {
        {"u: got null", [](Args& a) { a.u = nullptr; }},
        {"p: got null", [](Args& a) { a.p = nullptr; }},
        {"v: got null", [](Args& a) { a.v = nullptr; }},
        {"dy: got null", [](Args& a) { a.dy = nullptr; }},
        {"drouter_input: got 0x", [](Args& a) { a.router_input = nullptr; }},
        {"dW_g: got 0x",
         [](Args& a) {
             a.router = MOEK_CORE_ROUTER_CALLER;
             a.router_input = a.W_g = a.drouter_input = nullptr;
         }},
        {"dx: got memory that overlaps x", [](Args& a) { a.dx = const_cast<void*>(a.x); }},
        {"drouter_input: got memory that overlaps router_input",
         [](Args& a) { a.drouter_input = const_cast<void*>(a.router_input); }},
        {"dA: got memory that overlaps A", [](Args& a) { a.dA = const_cast<void*>(a.A); }},
        {"dB: got memory that overlaps B", [](Args& a) { a.dB = const_cast<void*>(a.B); }},
        {"dC: got memory that overlaps C", [](Args& a) { a.dC = const_cast<void*>(a.C); }},
        {"dW_g: got memory that overlaps W_g", [](Args& a) { a.dW_g = const_cast<void*>(a.W_g); }},
        {"dp: got memory that overlaps p", [](Args& a) { a.dp = a.p; }},
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

    template <class Call>
    void expect_errors(const std::vector<BadArgument>& list, Call&& call) {
        for (const BadArgument& bad : list) {
            SCOPED_TRACE(bad.text);
            CoreMergeCall spoilt = good_;
            bad.spoil(spoilt.args);
            MOEK_EXPECT_ERROR(call(spoilt), MOEK_STATUS_CODE_INVALID_ARGUMENT, ": " + bad.text);
            for (const auto& [tensor, before] : {std::pair<const Tensor*, const Tensor*>{&spoilt.x, &good_.x},
                                                 {&spoilt.A, &good_.A},
                                                 {&spoilt.B, &good_.B},
                                                 {&spoilt.C, &good_.C},
                                                 {&spoilt.W_g, &good_.W_g},
                                                 {&spoilt.y, &good_.y},
                                                 {&spoilt.u, &good_.u},
                                                 {&spoilt.p, &good_.p},
                                                 {&spoilt.v, &good_.v},
                                                 {&spoilt.dx, &good_.dx},
                                                 {&spoilt.drouter_input, &good_.drouter_input},
                                                 {&spoilt.dA, &good_.dA},
                                                 {&spoilt.dB, &good_.dB},
                                                 {&spoilt.dC, &good_.dC},
                                                 {&spoilt.dW_g, &good_.dW_g},
                                                 {&spoilt.dp, &good_.dp}}) {
                EXPECT_TRUE(tensor->same_bits(*before)) << "was written";
            }
        }
    }

    // Called with a workspace that is large enough whatever args say.
    moek_status forward(CoreMergeCall& call) {
        return moek_core_merge_forward(context_, &call.args, workspace_.data(), workspace_.size(), nullptr);
    }
    moek_status backward(CoreMergeCall& call) {
        return moek_core_merge_backward(context_, &call.args, workspace_.data(), workspace_.size(), nullptr);
    }

    Random random_;
    Context context_;
    CoreMergeCall good_{shape(), random_};
    GuardedBytes workspace_{1 << 24};
};

TEST_F(CoreMergeArguments, OfForward) {
    for (const auto& list : {bad_values(), bad_inputs(), bad_forward()}) {
        expect_errors(list, [&](CoreMergeCall& call) { return forward(call); });
    }
    ASSERT_EQ(forward(good_), MOEK_STATUS_CODE_OK) << last_error();
}

TEST_F(CoreMergeArguments, OfBackward) {
    ASSERT_EQ(forward(good_), MOEK_STATUS_CODE_OK) << last_error();
    for (const auto& list : {bad_values(), bad_inputs(), bad_backward()}) {
        expect_errors(list, [&](CoreMergeCall& call) { return backward(call); });
    }
    ASSERT_EQ(backward(good_), MOEK_STATUS_CODE_OK) << last_error();
}

TEST_F(CoreMergeArguments, OfTheWorkspaceQueries) {
    uint64_t bytes = 17;
    auto list = bad_values();
    list.push_back({"T: got 9223372036854775807", [](Args& a) {
                        a.T = kHuge;
                        a.u = nullptr;  // then it lies in the workspace
                    }});
    expect_errors(list,
                  [&](CoreMergeCall& call) { return moek_core_merge_forward_workspace(context_, &call.args, &bytes); });
    expect_errors(
        list, [&](CoreMergeCall& call) { return moek_core_merge_backward_workspace(context_, &call.args, &bytes); });
    EXPECT_EQ(bytes, 17u);
    const auto bad = MOEK_STATUS_CODE_INVALID_ARGUMENT;
    MOEK_EXPECT_ERROR(moek_core_merge_forward_workspace(context_, &good_.args, nullptr), bad, "out_bytes: got null");
    MOEK_EXPECT_ERROR(moek_core_merge_backward_workspace(context_, &good_.args, nullptr), bad, "out_bytes: got null");
    MOEK_EXPECT_ERROR(moek_core_merge_forward_workspace(nullptr, &good_.args, &bytes), bad, "context: got null");
    MOEK_EXPECT_ERROR(moek_core_merge_backward_workspace(nullptr, &good_.args, &bytes), bad, "context: got null");
    MOEK_EXPECT_ERROR(moek_core_merge_forward_workspace(context_, nullptr, &bytes), bad, "args: got null");
    MOEK_EXPECT_ERROR(moek_core_merge_backward_workspace(context_, nullptr, &bytes), bad, "args: got null");
}

TEST_F(CoreMergeArguments, BesideTheStruct) {
    const auto bad = MOEK_STATUS_CODE_INVALID_ARGUMENT;
    const auto small = MOEK_STATUS_CODE_WORKSPACE_TOO_SMALL;
    const Args* args = &good_.args;
    void* memory = workspace_.data();
    for (const auto call : {moek_core_merge_forward, moek_core_merge_backward}) {
        const auto query =
            call == moek_core_merge_forward ? moek_core_merge_forward_workspace : moek_core_merge_backward_workspace;
        uint64_t needed = 0;
        ASSERT_EQ(query(context_, args, &needed), MOEK_STATUS_CODE_OK) << last_error();
        MOEK_EXPECT_ERROR(call(nullptr, args, memory, needed, nullptr), bad, "context: got null");
        MOEK_EXPECT_ERROR(call(context_, nullptr, memory, needed, nullptr), bad, "args: got null");
        MOEK_EXPECT_ERROR(call(context_, args, nullptr, needed, nullptr), bad, "workspace: got null");
        MOEK_EXPECT_ERROR(call(context_, args, memory, needed - 1, nullptr), small, "workspace_bytes: got");
        MOEK_EXPECT_ERROR(call(context_, args, memory, needed, memory), bad, "stream: got 0x");
        MOEK_EXPECT_ERROR(call(context_, args, good_.C.data(), needed, nullptr), bad,
                          "workspace: got memory that overlaps");
    }
}

}  // namespace
}  // namespace moek::test
