// The rows of cuda/gate on every team and width, also those that the op `gate` does not choose for a size: other kernels call
// them on tiles of their own. What the op does choose is tested through the C ABI.
// Kernels mix signed and unsigned 32-bit indices, which nvcc does not warn of.
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "cpu/gate/reference.hpp"
#include "cpu/rank_lora/reference.hpp"
#include "cuda/common/shared_memory.hpp"
#include "cuda/gate/activation_row_backward.cuh"
#include "cuda/gate/gate_row_backward.cuh"
#include "cuda/gate/row_form.cuh"
#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

using cuda::ActivationRule;
using cuda::GateRow;
using cuda::GateRule;
using cuda::RowForm;
using cuda::SlotEntry;

constexpr int kThreads = 256;
constexpr double kTolerance = 1e-5;

// Rows of E elements and what comes of them; a rule is used when its E is not 0.
struct Rows {
    GateRule gate;
    ActivationRule activation;
    int T;
    const float* in;
    const float* dweights;
    const float* dlse;
    int32_t* ids;
    float* weights;
    float* lse;
    float* gradient;
};

template <class Form>
__global__ void rows_kernel(Rows rows) {
    using Team = typename Form::Team;
    constexpr int kPerThread = Form::kPerThread;
    MOEK_DYNAMIC_SHARED(SlotEntry, entries);
    const bool is_gate = rows.gate.E != 0;
    const GateRule& rule = is_gate ? rows.gate : rows.activation.softmax;
    const int team_index = static_cast<int>(threadIdx.x) / Team::kThreads;
    SlotEntry* const own_entries = entries + team_index * Team::kThreads * kPerThread;
    const Team team(entries + kThreads * kPerThread);
    const int first = team.thread() * kPerThread;
    constexpr int kRows = kThreads / Team::kThreads;
    for (int start = 0; start < rows.T; start += kRows) {
        const int t = start + team_index;
        const bool exists = t < rows.T;
        float in[kPerThread], bias[kPerThread];
        for (int i = 0; i < kPerThread; ++i) {
            in[i] = exists && first + i < rule.E ? rows.in[t * rule.E + first + i] : NAN;
        }
        cuda::load_bias(team, rule, bias);
        GateRow<kPerThread> row = {};
        if (is_gate) {
            cuda::gate_row_forward(team, rule, in, bias, true, row);
        } else {
            cuda::activation_row_forward(team, rows.activation, in, bias, row);
        }
        if (exists) {
            cuda::store_gate_row(team, row, rows.ids + t * rule.k, rows.weights + t * rule.k);
            if (is_gate && team.thread() == 0) rows.lse[t] = row.lse;
        }
        // The ids and weights above are read again as a caller would, behind a barrier.
        team.sync();
        int slot[kPerThread];
        float value[kPerThread], gradient[kPerThread];
        cuda::elements_of_slots(team, rule.E, rule.k, exists, rows.ids + t * rule.k, rows.dweights + t * rule.k,
                                own_entries, slot, value);
        for (int i = 0; i < kPerThread; ++i) ASSERT_EQ(slot[i], exists ? row.slot[i] : -1);
        if (is_gate) {
            cuda::gate_row_backward(team, rule, in, bias, slot, value, true, exists ? rows.dlse[t] : 0.0f, gradient);
        } else {
            cuda::activation_softmax_row_backward(team, rows.activation, in, bias, row.weight, value, gradient);
        }
        for (int i = 0; i < kPerThread; ++i) {
            if (first + i >= rule.E) {
                ASSERT_EQ(gradient[i], 0.0f);
            } else if (exists) {
                rows.gradient[t * rule.E + first + i] = gradient[i];
            }
        }
    }
}

struct Result {
    std::vector<int32_t> ids;
    std::vector<float> weights, lse, gradient;
};

template <class Form>
Result run_rows(Rows rows, const std::vector<float>& in, const std::vector<float>& dweights,
                const std::vector<float>& dlse) {
    const GateRule& rule = rows.gate.E != 0 ? rows.gate : rows.activation.softmax;
    const size_t T = static_cast<size_t>(rows.T);
    const size_t E = static_cast<size_t>(rule.E);
    const size_t k = static_cast<size_t>(rule.k);
    Result result = {std::vector<int32_t>(T * k), std::vector<float>(T * k, NAN), std::vector<float>(T, NAN),
                     std::vector<float>(T * E, NAN)};
    rows.in = in.data();
    rows.dweights = dweights.data();
    rows.dlse = dlse.data();
    rows.ids = result.ids.data();
    rows.weights = result.weights.data();
    rows.lse = result.lse.data();
    rows.gradient = result.gradient.data();
    const size_t shared_bytes =
        sizeof(SlotEntry) * kThreads * Form::kPerThread + Form::Team::scratch_bytes(Form::kPerThread, rule.k);
    const auto kernel = rows_kernel<Form>;
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(shared_bytes));
    EXPECT_EQ(launch(kernel, dim3(1), dim3(kThreads), shared_bytes, nullptr, rows), cudaSuccess);
    return result;
}

std::vector<double> wide(const std::vector<float>& values) {
    return std::vector<double>(values.begin(), values.end());
}

void expect_near(const std::vector<float>& got, const std::vector<double>& expected, const char* what) {
    double largest = 1;
    for (double value : expected) largest = std::max(largest, std::fabs(value));
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(got[i], expected[i], kTolerance * largest) << what << " " << i << " of " << got.size();
    }
}

class Numbers {
  public:
    std::vector<float> normals(int count, float deviation = 1) {
        std::normal_distribution<float> normal(0, deviation);
        std::vector<float> result(static_cast<size_t>(count));
        for (float& value : result) value = normal(engine_);
        return result;
    }
    // Multiples of 1/64 whose sums with others of their kind are exact, so that scores do not depend on rounding.
    std::vector<float> grid(int count) {
        std::vector<float> result = normals(count);
        for (float& value : result) value = std::round(value * 64) / 64;
        return result;
    }

  private:
    std::mt19937 engine_{20260101};
};

// Calls body(RowForm) for every form, as many elements as it takes, and sizes on both sides of its edges.
template <class Body>
void for_every_form(Body&& body) {
    for (int64_t capacity : {4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}) {
        cuda::with_row_form(cuda_gate_row_form(capacity), [&](auto form) {
            for (int64_t E : {int64_t{1}, int64_t{3}, capacity / 2 + 1, capacity - 1, capacity}) {
                if (!testing::Test::HasFailure()) body(form, static_cast<int>(E));
            }
        });
    }
}

struct Kind {
    int32_t score, bias_mode, normalize;
    float eps;
    bool all;
};

TEST(GateRows, EveryTeamComputesTheGate) {
    Numbers numbers;
    const Kind kinds[] = {
        {MOEK_GATE_SCORE_SOFTMAX, MOEK_BIAS_MODE_NONE, MOEK_GATE_NORMALIZE_SUM_TO_ONE, 0, false},
        {MOEK_GATE_SCORE_SOFTMAX, MOEK_BIAS_MODE_NONE, MOEK_GATE_NORMALIZE_NONE, 0, true},
        {MOEK_GATE_SCORE_SIGMOID, MOEK_BIAS_MODE_NONE, MOEK_GATE_NORMALIZE_SUM_TO_K, 0.25f, false},
        {MOEK_GATE_SCORE_IDENTITY, MOEK_BIAS_MODE_WEIGHT, MOEK_GATE_NORMALIZE_NONE, 0, false},
        {MOEK_GATE_SCORE_IDENTITY, MOEK_BIAS_MODE_SELECTION, MOEK_GATE_NORMALIZE_NONE, 0, false},
    };
    for_every_form([&](auto form, int E) {
        using Form = decltype(form);
        for (const Kind& kind : kinds) {
            for (int k : {1, E / 3, E}) {
                if (k == 0 || (kind.all && k != E) || k > 70) continue;
                SCOPED_TRACE("threads " + std::to_string(Form::Team::kThreads) + " x " +
                             std::to_string(Form::kPerThread) + " E " + std::to_string(E) + " k " + std::to_string(k) +
                             " score " + std::to_string(kind.score) + " bias " + std::to_string(kind.bias_mode));
                const int T = kThreads / Form::Team::kThreads + 1;  // a second pass that is not full
                std::vector<float> logits = numbers.grid(T * E);
                const std::vector<float> bias =
                    kind.bias_mode == MOEK_BIAS_MODE_NONE ? std::vector<float>() : numbers.grid(E);
                if (E > 2) logits[static_cast<size_t>(E)] = NAN;
                Rows rows = {};
                rows.T = T;
                rows.gate.E = E;
                rows.gate.k = k;
                rows.gate.all = kind.all;
                rows.gate.score = kind.score;
                rows.gate.bias_mode = kind.bias_mode;
                rows.gate.normalize = kind.normalize;
                rows.gate.eps = kind.eps;
                rows.gate.temperature = rows.gate.inverse_temperature = rows.gate.weight_scale = 1;
                rows.gate.bias = bias.empty() ? nullptr : bias.data();
                const std::vector<float> dweights = numbers.normals(T * k);
                const std::vector<float> dlse = numbers.normals(T);
                const Result got = run_rows<Form>(rows, logits, dweights, dlse);

                reference::Gate call;
                call.T = T;
                call.E = E;
                call.k = k;
                call.score = static_cast<moek_gate_score>(kind.score);
                call.select = kind.all ? MOEK_GATE_SELECT_ALL : MOEK_GATE_SELECT_TOP_K;
                call.bias_mode = static_cast<moek_bias_mode>(kind.bias_mode);
                call.normalize = static_cast<moek_gate_normalize>(kind.normalize);
                call.eps = kind.eps;
                call.logits = wide(logits);
                call.bias = wide(bias);
                const reference::GateOutput expected = reference::gate_forward(call);
                ASSERT_EQ(got.ids, expected.ids);
                expect_near(got.weights, expected.weights, "weight");
                expect_near(got.lse, expected.lse, "lse");
                expect_near(got.gradient, reference::gate_backward(call, expected, wide(dweights), wide(dlse)),
                            "gradient");
            }
        }
    });
}

// rank_lora with the identity for A and B: then a = u = x, dh = dy, and dx is the gates' own part plus the activations'.
reference::RankLora identity_call(const ActivationRule& rule, int T, const std::vector<float>& a,
                                  const std::vector<float>& bias) {
    reference::RankLora call;
    const int64_t r = rule.softmax.E;
    call.T = T;
    call.r = call.d_in = call.d_out = r;
    call.k = rule.softmax.k;
    call.gate = static_cast<moek_rank_gate>(rule.kind);
    call.bias_mode = static_cast<moek_bias_mode>(rule.softmax.bias_mode);
    call.normalize = static_cast<moek_gate_normalize>(rule.normalize);
    call.eps = rule.norm_eps;
    call.temperature = rule.softmax.temperature;
    call.threshold = rule.threshold;
    call.x = wide(a);
    call.bias = wide(bias);
    call.A.assign(static_cast<size_t>(r * r), 0.0);
    for (int64_t i = 0; i < r; ++i) call.A[static_cast<size_t>(i * r + i)] = 1;
    call.B = call.A;
    return call;
}

TEST(GateRows, EveryTeamComputesTheActivationGates) {
    Numbers numbers;
    const int32_t kinds[] = {MOEK_RANK_GATE_ACTIVATION_SIGNED, MOEK_RANK_GATE_ACTIVATION_ABSOLUTE,
                             MOEK_RANK_GATE_ACTIVATION_SOFTMAX};
    for_every_form([&](auto form, int r) {
        using Form = decltype(form);
        if (r > 600) return;  // the reference multiplies by r x r
        for (int32_t kind : kinds) {
            for (int variant = 0; variant < 3; ++variant) {
                const int k = std::min(variant == 0 ? 1 : r / 2 + 1, 40);
                SCOPED_TRACE("threads " + std::to_string(Form::Team::kThreads) + " x " +
                             std::to_string(Form::kPerThread) + " r " + std::to_string(r) + " k " + std::to_string(k) +
                             " kind " + std::to_string(kind) + " variant " + std::to_string(variant));
                const bool is_softmax = kind == MOEK_RANK_GATE_ACTIVATION_SOFTMAX;
                Rows rows = {};
                rows.T = kThreads / Form::Team::kThreads + 1;
                ActivationRule& rule = rows.activation;
                rule.kind = kind;
                rule.softmax.E = r;
                rule.softmax.k = k;
                rule.softmax.score = MOEK_GATE_SCORE_SOFTMAX;
                rule.softmax.temperature = variant == 2 ? 0.5f : 1.0f;
                rule.softmax.inverse_temperature = 1 / rule.softmax.temperature;
                rule.softmax.weight_scale = 1;
                rule.softmax.bias_mode = variant == 0 ? MOEK_BIAS_MODE_NONE
                                         : is_softmax ? MOEK_BIAS_MODE_WEIGHT
                                                      : MOEK_BIAS_MODE_SELECTION;
                rule.normalize = is_softmax ? variant : MOEK_GATE_NORMALIZE_NONE;
                rule.norm_eps = variant == 1 ? 0.5f : 0.0f;
                rule.threshold = is_softmax && variant == 2 ? 1.0f / static_cast<float>(r) : 0.0f;
                std::vector<float> a = numbers.grid(rows.T * r);
                std::fill_n(a.begin(), r, 0.0f);  // a row of zeros
                std::vector<float> bias;
                if (variant != 0) bias = numbers.grid(r);
                if (is_softmax) {
                    // Positive, so that no sum of gates is close to 0.
                    for (float& value : bias) value = std::fabs(value) / 8;
                }
                rule.softmax.bias = bias.empty() ? nullptr : bias.data();

                const reference::RankLora call = identity_call(rule, rows.T, a, bias);
                const reference::RankLoraOutput expected = reference::rank_lora_forward(call);
                const std::vector<float> dy = numbers.normals(rows.T * r);
                const reference::RankLoraGradient gradient = reference::rank_lora_backward(call, expected, wide(dy));
                const std::vector<float> dgates(gradient.dgates.begin(), gradient.dgates.end());
                const Result got = run_rows<Form>(rows, a, dgates, std::vector<float>(static_cast<size_t>(rows.T)));
                ASSERT_EQ(got.ids, expected.ids);
                expect_near(got.weights, expected.gates, "gate");
                if (!is_softmax) continue;
                std::vector<double> da = gradient.dx;
                for (int64_t i = 0; i < rows.T * k; ++i) {
                    const int64_t element = i / k * r + expected.ids[static_cast<size_t>(i)];
                    da[static_cast<size_t>(element)] -=
                        expected.gates[static_cast<size_t>(i)] * dy[static_cast<size_t>(element)];
                }
                expect_near(got.gradient, da, "da");
            }
        }
    });
}

template <class Form>
__global__ void slots_kernel(int E, int k, const int32_t* ids, const float* values, int* slots, float* found) {
    MOEK_DYNAMIC_SHARED(SlotEntry, entries);
    const typename Form::Team team(nullptr);
    int slot[Form::kPerThread];
    float value[Form::kPerThread];
    // Only the first of the rows that a block has room for exists.
    const bool exists = static_cast<int>(threadIdx.x) < Form::Team::kThreads;
    SlotEntry* const own =
        entries + static_cast<int>(threadIdx.x) / Form::Team::kThreads * Form::Team::kThreads * Form::kPerThread;
    cuda::elements_of_slots(team, E, k, exists, ids, values, own, slot, value);
    for (int i = 0; exists && i < Form::kPerThread; ++i) {
        slots[team.thread() * Form::kPerThread + i] = slot[i];
        found[team.thread() * Form::kPerThread + i] = value[i];
    }
}

TEST(GateRows, IdsOutOfRangeOrRepeatedArePassedOver) {
    for_every_form([](auto form, int E) {
        using Form = decltype(form);
        constexpr int kElements = Form::Team::kThreads * Form::kPerThread;
        const int32_t least = std::numeric_limits<int32_t>::min();
        const int32_t most = std::numeric_limits<int32_t>::max();
        std::vector<int32_t> ids = {E - 1, -1, E - 1, E, 0, least, most, kElements, 1, 0};
        if (ids.size() > static_cast<size_t>(E)) ids.resize(static_cast<size_t>(E));
        std::vector<float> values(ids.size());
        std::iota(values.begin(), values.end(), 10.0f);
        std::vector<int> slots(kElements, -7);
        std::vector<float> found(kElements, NAN);
        const size_t shared_bytes = sizeof(SlotEntry) * kThreads * Form::kPerThread;
        ASSERT_EQ(launch(slots_kernel<Form>, dim3(1), dim3(kThreads), shared_bytes, nullptr, E,
                         static_cast<int>(ids.size()), ids.data(), values.data(), slots.data(), found.data()),
                  cudaSuccess);
        for (int e = 0; e < kElements; ++e) {
            const auto place = e < E ? std::find(ids.begin(), ids.end(), e) : ids.end();
            const int expected = place == ids.end() ? -1 : static_cast<int>(place - ids.begin());
            ASSERT_EQ(slots[static_cast<size_t>(e)], expected) << e;
            ASSERT_EQ(found[static_cast<size_t>(e)], expected < 0 ? 0.0f : values[static_cast<size_t>(expected)]) << e;
        }
    });
}

}  // namespace
}  // namespace moek::emulation::test
