// Bad arguments of the gate's functions, one case per argument, and the memory rules: overlaps, alignment, workspace.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/bad_arguments.hpp"
#include "tests/support/gate_case.hpp"

namespace moek::test {
namespace {

using Bad = BadArgument<moek_gate_args>;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

void* misaligned(const void* pointer) {
    return const_cast<char*>(static_cast<const char*>(pointer)) + 1;
}

// What every function of the op rejects, the workspace queries too.
std::vector<Bad> scalar_cases() {
    return {
        {"struct_size 0", [](auto& a) { a.struct_size = 0; }, "args->struct_size: got 0"},
        {"struct_size huge", [](auto& a) { a.struct_size = 1u << 30; }, "args->struct_size: got 1073741824"},
        {"flags", [](auto& a) { a.flags = 64; }, "flags: got 64"},
        {"T", [](auto& a) { a.T = -1; }, "T: got -1"},
        {"E 0", [](auto& a) { a.E = 0; }, "E: got 0, expected 1..4096"},
        {"E too large", [](auto& a) { a.E = 4097; }, "E: got 4097"},
        {"k 0", [](auto& a) { a.k = 0; }, "k: got 0, expected 1..6"},
        {"k > E", [](auto& a) { a.k = 7; }, "k: got 7, expected 1..6"},
        {"logits_stride", [](auto& a) { a.logits_stride = 5; },
         "logits_stride: got 5, expected at least the 6 columns"},
        {"logits_stride < 0", [](auto& a) { a.logits_stride = -6; }, "logits_stride: got -6"},
        {"dlogits_stride", [](auto& a) { a.dlogits_stride = 5; }, "dlogits_stride: got 5"},
        {"logits_dtype", [](auto& a) { a.logits_dtype = 4; }, "logits_dtype: got 4"},
        {"logits_dtype < 0", [](auto& a) { a.logits_dtype = -1; }, "logits_dtype: got -1"},
        {"score", [](auto& a) { a.score = 3; }, "score: got 3, expected a value of moek_gate_score, 0..2"},
        {"select", [](auto& a) { a.select = 2; }, "select: got 2"},
        {"bias_mode", [](auto& a) { a.bias_mode = 3; }, "bias_mode: got 3"},
        {"normalize", [](auto& a) { a.normalize = 3; }, "normalize: got 3"},
        {"reserved0", [](auto& a) { a.reserved0 = 1; }, "reserved0: got 1"},
        {"eps < 0", [](auto& a) { a.eps = -1e-9; }, "eps: got -1"},
        {"eps NaN", [](auto& a) { a.eps = kNan; }, "eps: got nan"},
        {"temperature < 0", [](auto& a) { a.temperature = -1; }, "temperature: got -1"},
        {"temperature NaN", [](auto& a) { a.temperature = kNan; }, "temperature: got nan"},
        {"temperature inf", [](auto& a) { a.temperature = kInfinity; }, "temperature: got inf"},
        {"weight_scale", [](auto& a) { a.weight_scale = kInfinity; }, "weight_scale: got inf"},
        {"reserved", [](auto& a) { a.reserved[7] = 1; }, "reserved: got 1"},
        {"k with SELECT_ALL",
         [](auto& a) {
             a.select = MOEK_GATE_SELECT_ALL;
             a.k = 2;
         },
         "k: got 2, expected 0 or E = 6"},
    };
}

std::vector<Bad> joined(std::vector<Bad> cases, const std::vector<Bad>& more) {
    cases.insert(cases.end(), more.begin(), more.end());
    return cases;
}

class GateArguments : public testing::Test {
  protected:
    GateArguments()
        : gate_(biased(), MOEK_DTYPE_F32, 4, 6, 2, std::vector<double>(24, 0.5), std::vector<double>(6, 0.1)) {}

    static GateConfig biased() {
        GateConfig config;
        config.bias_mode = MOEK_BIAS_MODE_SELECTION;
        return config;
    }
    moek_status forward(const moek_gate_args& args) {
        GuardedBytes workspace(1 << 16);
        const moek_status status = moek_gate_forward(context_, &args, workspace.data(), workspace.size(), nullptr);
        wait_for_device();
        return status;
    }
    moek_status backward(const moek_gate_args& args) {
        const moek_status status = moek_gate_backward(context_, &args, nullptr, 0, nullptr);
        wait_for_device();
        return status;
    }
    bool forward_untouched() {
        return gate_.ids.at(0, 0) == IntTensor::kPoison && std::isnan(gate_.weights.at(0, 0)) &&
               gate_.counts.at(0, 0) == IntTensor::kPoison && std::isnan(gate_.lse.at(0, 0));
    }

    Context context_;
    GateCase gate_;
};

TEST_F(GateArguments, Forward) {
    expect_all_rejected<moek_gate_args>(
        gate_.args,
        joined(
            scalar_cases(),
            {
                {"logits", [](auto& a) { a.logits = nullptr; }, "logits: got null"},
                {"logits misaligned", [](auto& a) { a.logits = misaligned(a.logits); }, "aligned to its elements of 4"},
                {"logits too large", [](auto& a) { a.T = kHuge; }, "logits: got a tensor [9223372036854775807, 6]"},
                {"logits_stride too large", [](auto& a) { a.logits_stride = kHuge / 2; }, "logits: got a tensor"},
                {"bias", [](auto& a) { a.bias = nullptr; }, "bias: got null"},
                {"bias without mode", [](auto& a) { a.bias_mode = MOEK_BIAS_MODE_NONE; },
                 "expected null with MOEK_BIAS_MODE_NONE"},
                {"bias misaligned", [](auto& a) { a.bias = misaligned(a.bias); }, "bias: got 0x"},
                {"ids", [](auto& a) { a.ids = nullptr; }, "ids: got null"},
                {"ids misaligned", [](auto& a) { a.ids = misaligned(a.ids); }, "ids: got 0x"},
                {"ids with SELECT_ALL",
                 [](auto& a) {
                     a.select = MOEK_GATE_SELECT_ALL;
                     a.k = 0;
                 },
                 "expected null with MOEK_GATE_SELECT_ALL"},
                {"counts with SELECT_ALL",
                 [](auto& a) {
                     a.select = MOEK_GATE_SELECT_ALL;
                     a.k = 0;
                     a.ids = nullptr;
                 },
                 "counts: got 0x"},
                {"weights", [](auto& a) { a.weights = nullptr; }, "weights: got null"},
                {"weights misaligned", [](auto& a) { a.weights = misaligned(a.weights); }, "weights: got 0x"},
                {"counts misaligned", [](auto& a) { a.counts = misaligned(a.counts); }, "counts: got 0x"},
                {"lse misaligned", [](auto& a) { a.lse = misaligned(a.lse); }, "lse: got 0x"},
                {"weights over logits", [](auto& a) { a.weights = const_cast<void*>(a.logits); },
                 "weights: got memory that overlaps logits"},
                {"ids over bias", [](auto& a) { a.ids = const_cast<void*>(a.bias); },
                 "ids: got memory that overlaps bias"},
                {"counts over ids", [](auto& a) { a.counts = a.ids; }, "overlaps ids"},
                {"lse over weights", [](auto& a) { a.lse = static_cast<float*>(a.weights) + 7; },
                 "lse: got memory that overlaps weights"},
            }),
        [&](const moek_gate_args& args) { return forward(args); }, [&] { return forward_untouched(); });
}

TEST_F(GateArguments, Backward) {
    gate_.ids.fill(1);
    gate_.dweights.fill(1);
    gate_.dlse.fill(1);
    expect_all_rejected<moek_gate_args>(
        gate_.args,
        joined(scalar_cases(),
               {
                   {"logits", [](auto& a) { a.logits = nullptr; }, "logits: got null"},
                   {"logits misaligned", [](auto& a) { a.logits = misaligned(a.logits); }, "logits: got 0x"},
                   {"bias", [](auto& a) { a.bias = nullptr; }, "bias: got null"},
                   {"ids", [](auto& a) { a.ids = nullptr; }, "ids: got null"},
                   {"dweights", [](auto& a) { a.dweights = nullptr; }, "dweights: got null"},
                   {"dweights misaligned", [](auto& a) { a.dweights = misaligned(a.dweights); }, "dweights: got 0x"},
                   {"dlse misaligned", [](auto& a) { a.dlse = misaligned(a.dlse); }, "dlse: got 0x"},
                   {"dlogits", [](auto& a) { a.dlogits = nullptr; }, "dlogits: got null"},
                   {"dlogits misaligned", [](auto& a) { a.dlogits = misaligned(a.dlogits); }, "dlogits: got 0x"},
                   {"dlogits_stride too large", [](auto& a) { a.dlogits_stride = kHuge / 4; }, "dlogits: got a tensor"},
                   {"dlogits over logits", [](auto& a) { a.dlogits = const_cast<void*>(a.logits); },
                    "dlogits: got memory that overlaps logits"},
                   {"dlogits over ids", [](auto& a) { a.dlogits = a.ids; }, "dlogits: got memory that overlaps ids"},
                   {"dlogits over dweights", [](auto& a) { a.dlogits = const_cast<void*>(a.dweights); },
                    "dlogits: got memory that overlaps dweights"},
               }),
        [&](const moek_gate_args& args) { return backward(args); }, [&] { return std::isnan(gate_.dlogits.at(0, 0)); });
}

TEST_F(GateArguments, BackwardRejectsIdsOutOfRangeBeforeWriting) {
    gate_.dweights.fill(1);
    gate_.dlse.fill(1);
    for (int32_t id : {-1, 6, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()}) {
        gate_.ids.fill(0);
        gate_.ids.data()[5] = id;
        MOEK_EXPECT_ERROR(backward(gate_.args), MOEK_STATUS_CODE_INVALID_ARGUMENT,
                          "ids: got " + std::to_string(id) + " at [2, 1], expected 0..5");
        EXPECT_TRUE(std::isnan(gate_.dlogits.at(0, 0)));
    }
}

TEST_F(GateArguments, WorkspaceQueriesRejectTheSameScalars) {
    uint64_t bytes = 77;
    expect_all_rejected<moek_gate_args>(gate_.args, scalar_cases(), [&](const moek_gate_args& args) {
        return moek_gate_forward_workspace(context_, &args, &bytes);
    });
    expect_all_rejected<moek_gate_args>(gate_.args, scalar_cases(), [&](const moek_gate_args& args) {
        return moek_gate_backward_workspace(context_, &args, &bytes);
    });
}

TEST_F(GateArguments, WorkspaceQueriesDoNotReadPointers) {
    uint64_t with_pointers = 0, without = 0;
    moek_gate_args args = gate_.args;
    ASSERT_EQ(moek_gate_forward_workspace(context_, &args, &with_pointers), MOEK_STATUS_CODE_OK);
    args.logits = args.bias = nullptr;
    args.ids = args.weights = args.counts = args.lse = nullptr;
    ASSERT_EQ(moek_gate_forward_workspace(context_, &args, &without), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(with_pointers, without);
    EXPECT_TRUE(on_cuda() || without > 0);
    // Any T can be asked about, without overflow.
    args.T = kHuge;
    EXPECT_EQ(moek_gate_forward_workspace(context_, &args, &without), MOEK_STATUS_CODE_OK);
}

TEST_F(GateArguments, ContextArgsAndOutputPointersAreRequired) {
    const auto bad = MOEK_STATUS_CODE_INVALID_ARGUMENT;
    uint64_t bytes = 0;
    const moek_gate_args* args = &gate_.args;
    MOEK_EXPECT_ERROR(moek_gate_forward_workspace(nullptr, args, &bytes), bad, "context: got null");
    MOEK_EXPECT_ERROR(moek_gate_forward_workspace(context_, nullptr, &bytes), bad, "args: got null");
    MOEK_EXPECT_ERROR(moek_gate_forward_workspace(context_, args, nullptr), bad, "out_bytes: got null");
    MOEK_EXPECT_ERROR(moek_gate_backward_workspace(nullptr, args, &bytes), bad, "context: got null");
    MOEK_EXPECT_ERROR(moek_gate_backward_workspace(context_, nullptr, &bytes), bad, "args: got null");
    MOEK_EXPECT_ERROR(moek_gate_backward_workspace(context_, args, nullptr), bad, "out_bytes: got null");
    MOEK_EXPECT_ERROR(moek_gate_forward(nullptr, args, nullptr, 0, nullptr), bad, "context: got null");
    MOEK_EXPECT_ERROR(moek_gate_forward(context_, nullptr, nullptr, 0, nullptr), bad, "args: got null");
    MOEK_EXPECT_ERROR(moek_gate_backward(nullptr, args, nullptr, 0, nullptr), bad, "context: got null");
    MOEK_EXPECT_ERROR(moek_gate_backward(context_, nullptr, nullptr, 0, nullptr), bad, "args: got null");
}

TEST_F(GateArguments, StreamMustBeNullOnTheCpu) {
    int dummy = 0;
    std::vector<unsigned char> workspace(1 << 16);
    MOEK_EXPECT_ERROR(moek_gate_forward(context_, &gate_.args, workspace.data(), workspace.size(), &dummy),
                      MOEK_STATUS_CODE_INVALID_ARGUMENT, "stream: got 0x");
    MOEK_EXPECT_ERROR(moek_gate_backward(context_, &gate_.args, nullptr, 0, &dummy), MOEK_STATUS_CODE_INVALID_ARGUMENT,
                      "stream: got 0x");
}

TEST_F(GateArguments, Workspace) {
    uint64_t bytes = 0;
    ASSERT_EQ(moek_gate_forward_workspace(context_, &gate_.args, &bytes), MOEK_STATUS_CODE_OK);
    ASSERT_GT(bytes, 0u);
    GuardedBytes workspace(bytes + 16);
    MOEK_EXPECT_ERROR(moek_gate_forward(context_, &gate_.args, nullptr, bytes, nullptr),
                      MOEK_STATUS_CODE_INVALID_ARGUMENT, "workspace: got null");
    MOEK_EXPECT_ERROR(moek_gate_forward(context_, &gate_.args, workspace.data(), bytes - 1, nullptr),
                      MOEK_STATUS_CODE_WORKSPACE_TOO_SMALL, "workspace_bytes: got " + std::to_string(bytes - 1));
    // A workspace that covers an output.
    std::vector<unsigned char> shared(bytes + 64);
    moek_gate_args args = gate_.args;
    args.counts = shared.data() + 32;
    MOEK_EXPECT_ERROR(moek_gate_forward(context_, &args, shared.data(), bytes, nullptr),
                      MOEK_STATUS_CODE_INVALID_ARGUMENT, "overlaps");
    EXPECT_TRUE(forward_untouched());
    // Every alignment works; GuardedBytes and the sanitizers watch its ends.
    for (size_t offset = 0; offset < 16; ++offset) {
        EXPECT_EQ(moek_gate_forward(context_, &gate_.args, workspace.data() + offset, bytes, nullptr),
                  MOEK_STATUS_CODE_OK);
        EXPECT_EQ(gate_.counts.at(0, 0), 4);
    }
}

TEST_F(GateArguments, InterleavedColumnSlicesDoNotOverlap) {
    // logits and dlogits as the two halves of one matrix.
    const int64_t T = 5, E = 4;
    std::vector<float> matrix(static_cast<size_t>(T * 2 * E), 0.25f);
    GateCase gate({}, MOEK_DTYPE_F32, T, E, 2, std::vector<double>(static_cast<size_t>(T * E), 0.25), {}, 0);
    gate.args.logits = matrix.data();
    gate.args.logits_stride = 2 * E;
    gate.args.dlogits = matrix.data() + E;
    gate.args.dlogits_stride = 2 * E;
    gate.ids.fill(0);
    gate.dweights.fill(1);
    gate.dlse.fill(0);
    EXPECT_EQ(gate.backward(context_), MOEK_STATUS_CODE_OK) << last_error();
    gate.args.dlogits = matrix.data() + E - 1;
    MOEK_EXPECT_ERROR(gate.backward(context_), MOEK_STATUS_CODE_INVALID_ARGUMENT, "dlogits: got memory that overlaps");
}

TEST_F(GateArguments, StructsOfOlderAndNewerCallers) {
    // Older: the missing fields are zero. Without `lse` and what follows.
    moek_gate_args args = gate_.args;
    args.struct_size = offsetof(moek_gate_args, lse);
    EXPECT_EQ(forward(args), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_TRUE(std::isnan(gate_.lse.at(0, 0)));
    args.struct_size = offsetof(moek_gate_args, E);
    MOEK_EXPECT_ERROR(forward(args), MOEK_STATUS_CODE_INVALID_ARGUMENT, "E: got 0");

    // Newer: an unknown tail must be zero.
    struct Newer {
        moek_gate_args known;
        uint64_t unknown[2];
    } newer = {gate_.args, {0, 0}};
    newer.known.struct_size = sizeof(newer);
    EXPECT_EQ(forward(newer.known), MOEK_STATUS_CODE_OK) << last_error();
    newer.unknown[1] = uint64_t{1} << 56;
    MOEK_EXPECT_ERROR(forward(newer.known), MOEK_STATUS_CODE_INVALID_ARGUMENT,
                      "args, byte " + std::to_string(sizeof(moek_gate_args) + 15));
}

TEST(GateBiasUpdateArguments, Rejected) {
    const Context context;
    IntTensor counts(1, 3, {1, 2, 3});
    Tensor bias(MOEK_DTYPE_F32, 1, 3, {0.5, 0.5, 0.5});
    moek_gate_bias_update_args good = {};
    good.struct_size = sizeof(good);
    good.E = 3;
    good.rate = 0;
    good.counts = counts.data();
    good.bias = bias.data();
    using BadUpdate = BadArgument<moek_gate_bias_update_args>;
    expect_all_rejected<moek_gate_bias_update_args>(
        good,
        std::vector<BadUpdate>{
            {"struct_size", [](auto& a) { a.struct_size = 3; }, "args->struct_size: got 3"},
            {"flags", [](auto& a) { a.flags = 1; }, "flags: got 1"},
            {"E 0", [](auto& a) { a.E = 0; }, "E: got 0"},
            {"E too large", [](auto& a) { a.E = 4097; }, "E: got 4097"},
            {"bias_dtype", [](auto& a) { a.bias_dtype = MOEK_DTYPE_BF16; }, "bias_dtype: got 1"},
            {"target_mode", [](auto& a) { a.target_mode = 2; }, "target_mode: got 2"},
            {"rate", [](auto& a) { a.rate = kNan; }, "rate: got nan"},
            {"target", [](auto& a) { a.target = kInfinity; }, "target: got inf"},
            {"counts", [](auto& a) { a.counts = nullptr; }, "counts: got null"},
            {"counts misaligned", [](auto& a) { a.counts = misaligned(a.counts); }, "counts: got 0x"},
            {"bias", [](auto& a) { a.bias = nullptr; }, "bias: got null"},
            {"bias misaligned", [](auto& a) { a.bias = misaligned(a.bias); }, "bias: got 0x"},
            {"bias over counts", [](auto& a) { a.bias = const_cast<void*>(a.counts); },
             "bias: got memory that overlaps"},
            {"reserved", [](auto& a) { a.reserved[0] = 1; }, "reserved: got 1"},
        },
        [&](const moek_gate_bias_update_args& args) { return moek_gate_bias_update(context, &args, nullptr); },
        [&] { return bias.at(0, 0) == 0.5; });
    const auto bad = MOEK_STATUS_CODE_INVALID_ARGUMENT;
    int dummy = 0;
    MOEK_EXPECT_ERROR(moek_gate_bias_update(nullptr, &good, nullptr), bad, "context: got null");
    MOEK_EXPECT_ERROR(moek_gate_bias_update(context, nullptr, nullptr), bad, "args: got null");
    if (!on_cuda()) {
        MOEK_EXPECT_ERROR(moek_gate_bias_update(context, &good, &dummy), bad, "stream: got 0x");
    }
}

}  // namespace
}  // namespace moek::test
