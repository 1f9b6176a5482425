// Contexts, devices, and the boundary to a backend in another library.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

#include "tests/support/bad_arguments.hpp"
#include "tests/support/context.hpp"
#include "tests/support/gate_case.hpp"
#if defined(__unix__)
#include "tests/support/environment.hpp"
#endif

namespace moek::test {
namespace {

using Messages = std::vector<std::pair<int32_t, std::string>>;

void collect(int32_t level, const char* message, uint64_t length, void* user) {
    EXPECT_EQ(std::string(message).size(), length);
    static_cast<Messages*>(user)->emplace_back(level, message);
}

moek_context_options options_for(int32_t device_type) {
    moek_context_options options = {};
    options.struct_size = sizeof(options);
    options.device_type = device_type;
    return options;
}

moek_context_info info_of(const moek_context* context) {
    moek_context_info info = {};
    info.struct_size = sizeof(info);
    EXPECT_EQ(moek_context_query(context, &info), MOEK_STATUS_CODE_OK) << last_error();
    return info;
}

TEST(ContextCreate, NullOptionsAreTheCpuWithAllItsCores) {
    moek_context* context = nullptr;
    ASSERT_EQ(moek_context_create(nullptr, &context), MOEK_STATUS_CODE_OK) << last_error();
    const moek_context_info info = info_of(context);
    EXPECT_EQ(info.struct_size, sizeof(info));
    EXPECT_EQ(info.device_type, MOEK_DEVICE_TYPE_CPU);
    EXPECT_EQ(info.device_index, 0);
    EXPECT_GE(info.thread_count, 1);
    EXPECT_NE(info.isa, MOEK_ISA_AUTO);
    EXPECT_EQ(info.reserved0, 0);
    EXPECT_EQ(moek_context_destroy(context), MOEK_STATUS_CODE_OK);
}

TEST(ContextCreate, ThreadCountAndIsaAreTaken) {
    for (int32_t isa : available_isas()) {
        const Context context(3, isa);
        EXPECT_EQ(info_of(context).thread_count, 3);
        EXPECT_EQ(info_of(context).isa, isa);
    }
}

#if defined(__linux__)
TEST(ContextCreate, DefaultThreadCountHonoursTheAffinityMask) {
    // In a thread of its own, so that the mask of the other tests stays.
    std::thread([] {
        cpu_set_t set;
        ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
        size_t first = 0;
        while (!CPU_ISSET(first, &set)) ++first;
        CPU_ZERO(&set);
        CPU_SET(first, &set);
        ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
        EXPECT_EQ(info_of(Context(0)).thread_count, 1);
    }).join();
}
#endif

TEST(ContextCreate, DestroyingNullIsLegal) {
    EXPECT_EQ(moek_context_destroy(nullptr), MOEK_STATUS_CODE_OK);
}

TEST(ContextCreate, LogsOneDebugMessage) {
    for (int32_t level : {MOEK_LOG_LEVEL_TRACE, MOEK_LOG_LEVEL_DEBUG, MOEK_LOG_LEVEL_INFORMATION}) {
        Messages messages;
        moek_context_options options = options_for(MOEK_DEVICE_TYPE_CPU);
        options.thread_count = 1;
        options.isa = MOEK_ISA_SCALAR;
        options.log = collect;
        options.log_user = &messages;
        options.log_level = level;
        moek_context* context = nullptr;
        ASSERT_EQ(moek_context_create(&options, &context), MOEK_STATUS_CODE_OK);
        if (level == MOEK_LOG_LEVEL_INFORMATION) {
            EXPECT_TRUE(messages.empty());
        } else {
            EXPECT_EQ(messages, (Messages{{MOEK_LOG_LEVEL_DEBUG, "context on cpu:0, threads=1, isa=scalar"}}));
        }
        moek_context_destroy(context);
    }
}

TEST(ContextCreate, WarnsOfMoreThreadsThanCores) {
    Messages messages;
    moek_context_options options = options_for(MOEK_DEVICE_TYPE_CPU);
    options.thread_count = 4096;
    options.log = collect;
    options.log_user = &messages;
    options.log_level = MOEK_LOG_LEVEL_WARNING;
    moek_context* context = nullptr;
    ASSERT_EQ(moek_context_create(&options, &context), MOEK_STATUS_CODE_OK);
    ASSERT_EQ(messages.size(), 1u);
    EXPECT_EQ(messages[0].first, MOEK_LOG_LEVEL_WARNING);
    EXPECT_EQ(messages[0].second.find("thread_count 4096 is more than the "), 0u) << messages[0].second;
    moek_context_destroy(context);
}

TEST(ContextCreate, LentThreadsAreForTheCpu) {
    moek_context* context = nullptr;
    moek_context_options options = options_for(MOEK_DEVICE_TYPE_CUDA);
    options.parallel = [](void (*body)(void*), void* data, uint32_t, uint32_t) { body(data); };
    MOEK_EXPECT_ERROR(moek_context_create(&options, &context), MOEK_STATUS_CODE_INVALID_ARGUMENT,
                      "expected null on a GPU");
}

TEST(ContextArguments, Rejected) {
    moek_context* context = nullptr;
    moek_context_options good = options_for(MOEK_DEVICE_TYPE_CPU);
    good.thread_count = 1;
    std::vector<BadArgument<moek_context_options>> cases = {
        {"struct_size", [](auto& o) { o.struct_size = 0; }, "options->struct_size: got 0"},
        {"device_type", [](auto& o) { o.device_type = 2; }, "device_type: got 2"},
        {"device_index", [](auto& o) { o.device_index = -1; }, "device_index: got -1"},
        {"device_index of the CPU", [](auto& o) { o.device_index = 1; }, "device_index: got 1, expected 0..0"},
        {"thread_count", [](auto& o) { o.thread_count = -1; }, "thread_count: got -1"},
        {"thread_count too large", [](auto& o) { o.thread_count = 4097; }, "thread_count: got 4097"},
        {"isa", [](auto& o) { o.isa = 6; }, "isa: got 6"},
        {"log_level", [](auto& o) { o.log_level = 5; }, "log_level: got 5"},
        {"reserved", [](auto& o) { o.reserved[1] = 2; }, "reserved: got 2"},
    };
    const std::vector<int32_t> isas = available_isas();
    for (int32_t isa = MOEK_ISA_SCALAR; isa <= MOEK_ISA_AVX512_BF16; ++isa) {
        if (std::find(isas.begin(), isas.end(), isa) != isas.end()) continue;
        cases.push_back({"isa that the processor lacks", [=](auto& o) { o.isa = isa; },
                         "isa: got " + std::to_string(isa) + ", expected an instruction set that this processor has"});
    }
    expect_all_rejected<moek_context_options>(
        good, cases,
        [&](const moek_context_options& options) {
            moek_context_destroy(context);
            context = reinterpret_cast<moek_context*>(&context);  // must be set to null on failure
            const moek_status status = moek_context_create(&options, &context);
            return status;
        },
        [&] { return context == nullptr; });
    moek_context_destroy(context);
    MOEK_EXPECT_ERROR(moek_context_create(&good, nullptr), MOEK_STATUS_CODE_INVALID_ARGUMENT, "out_context: got null");
}

TEST(ContextArguments, Query) {
    const auto bad = MOEK_STATUS_CODE_INVALID_ARGUMENT;
    const Context context(1);
    moek_context_info info = {};
    MOEK_EXPECT_ERROR(moek_context_query(nullptr, &info), bad, "context: got null");
    MOEK_EXPECT_ERROR(moek_context_query(context, nullptr), bad, "out_info: got null");
    MOEK_EXPECT_ERROR(moek_context_query(context, &info), bad, "out_info->struct_size: got 0");
    // An older caller's struct is filled up to its size, a newer one's unknown tail is zeroed.
    info.struct_size = offsetof(moek_context_info, thread_count);
    info.thread_count = -7;
    EXPECT_EQ(moek_context_query(context, &info), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(info.thread_count, -7);
    struct {
        moek_context_info known;
        uint64_t unknown;
    } newer = {};
    newer.known.struct_size = sizeof(newer);
    newer.unknown = 99;
    EXPECT_EQ(moek_context_query(context, &newer.known), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(newer.known.struct_size, sizeof(newer));
    EXPECT_EQ(newer.known.thread_count, 1);
    EXPECT_EQ(newer.unknown, 0u);
}

TEST(Device, TheCpu) {
    int32_t count = 0;
    ASSERT_EQ(moek_device_count(MOEK_DEVICE_TYPE_CPU, &count), MOEK_STATUS_CODE_OK);
    EXPECT_EQ(count, 1);
    moek_device_info info = {};
    info.struct_size = sizeof(info);
    ASSERT_EQ(moek_device_query(MOEK_DEVICE_TYPE_CPU, 0, &info), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_EQ(info.device_type, MOEK_DEVICE_TYPE_CPU);
    EXPECT_GE(info.core_count, 1);
    EXPECT_GT(info.total_memory, uint64_t{1} << 20);
    EXPECT_GT(std::string(info.name).size(), 0u);
}

TEST(DeviceArguments, Rejected) {
    const auto bad = MOEK_STATUS_CODE_INVALID_ARGUMENT;
    int32_t count = 5;
    MOEK_EXPECT_ERROR(moek_device_count(2, &count), bad, "device_type: got 2");
    EXPECT_EQ(count, 0);
    MOEK_EXPECT_ERROR(moek_device_count(MOEK_DEVICE_TYPE_CPU, nullptr), bad, "out_count: got null");
    moek_device_info info = {};
    info.struct_size = sizeof(info);
    MOEK_EXPECT_ERROR(moek_device_query(-1, 0, &info), bad, "device_type: got -1");
    MOEK_EXPECT_ERROR(moek_device_query(MOEK_DEVICE_TYPE_CPU, 1, &info), bad, "device_index: got 1, expected 0..0");
    MOEK_EXPECT_ERROR(moek_device_query(MOEK_DEVICE_TYPE_CPU, -1, &info), bad, "device_index: got -1");
    MOEK_EXPECT_ERROR(moek_device_query(MOEK_DEVICE_TYPE_CPU, 0, nullptr), bad, "out_info: got null");
    info.struct_size = 1;
    MOEK_EXPECT_ERROR(moek_device_query(MOEK_DEVICE_TYPE_CPU, 0, &info), bad, "out_info->struct_size: got 1");
}

// ---------------------------------------------------------------------------------------------------------------------
// The library of a CUDA context
// ---------------------------------------------------------------------------------------------------------------------

moek_status create_cuda(const char* library, moek_context** out_context, int32_t device_index = 0,
                        Messages* messages = nullptr) {
    moek_context_options options = options_for(MOEK_DEVICE_TYPE_CUDA);
    options.cuda_library = library;
    options.device_index = device_index;
    if (messages != nullptr) {
        options.log = collect;
        options.log_user = messages;
    }
    return moek_context_create(&options, out_context);
}

TEST(CudaLibrary, AMissingOneIsAClearError) {
    const auto unavailable = MOEK_STATUS_CODE_BACKEND_UNAVAILABLE;
    moek_context* context = nullptr;
    MOEK_EXPECT_ERROR(create_cuda("/nowhere/libnothing.so", &context), unavailable,
                      "the CUDA backend cannot be used: /nowhere/libnothing.so: ");
    EXPECT_EQ(context, nullptr);
    MOEK_EXPECT_ERROR(create_cuda(MOEK_NO_ENTRY_LIBRARY, &context), unavailable, "moek_cuda_backend");
}

TEST(CudaLibrary, IsLookedForBesideThisOne) {
    moek_context* context = nullptr;
    const moek_status status = create_cuda(nullptr, &context);
    if (status == MOEK_STATUS_CODE_OK) {  // a build with CUDA on a machine with a GPU
        EXPECT_EQ(moek_context_destroy(context), MOEK_STATUS_CODE_OK);
        return;
    }
    EXPECT_EQ(status, MOEK_STATUS_CODE_BACKEND_UNAVAILABLE);
    EXPECT_NE(last_error().find("moekernels_cuda"), std::string::npos) << last_error();
    EXPECT_EQ(context, nullptr);
}

#if defined(__unix__)
TEST(CudaLibrary, TheEnvironmentMayNameAnother) {
    const Environment recording("MOEKERNELS_CUDA_LIBRARY", MOEK_RECORDING_LIBRARY);
    int32_t count = 0;
    EXPECT_EQ(moek_device_count(MOEK_DEVICE_TYPE_CUDA, &count), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_EQ(count, 2);
    // The options stand above it, and an empty value names nothing.
    moek_context* context = nullptr;
    MOEK_EXPECT_ERROR(create_cuda("/nowhere/libnothing.so", &context), MOEK_STATUS_CODE_BACKEND_UNAVAILABLE,
                      "/nowhere/libnothing.so");
    const Environment nothing("MOEKERNELS_CUDA_LIBRARY", "");
    if (moek_device_count(MOEK_DEVICE_TYPE_CUDA, &count) != MOEK_STATUS_CODE_OK) {
        EXPECT_EQ(last_error().find("recording"), std::string::npos) << last_error();
        EXPECT_NE(last_error().find("moekernels_cuda"), std::string::npos) << last_error();
    }
}
#endif

TEST(CudaLibrary, OneThatRefusesSaysWhy) {
    moek_context* context = nullptr;
    MOEK_EXPECT_ERROR(create_cuda(MOEK_REFUSING_LIBRARY, &context), MOEK_STATUS_CODE_BACKEND_UNAVAILABLE,
                      ": the driver is too old");
}

TEST(CudaLibrary, AnotherVersionIsRefused) {
    moek_context* context = nullptr;
    MOEK_EXPECT_ERROR(create_cuda(MOEK_OTHER_VERSION_LIBRARY, &context), MOEK_STATUS_CODE_BACKEND_UNAVAILABLE,
                      "another version of MoEKernels");
}

TEST(CudaLibrary, IsLoadedAndGetsResolvedArguments) {
    Messages messages;
    moek_context* context = nullptr;
    ASSERT_EQ(create_cuda(MOEK_RECORDING_LIBRARY, &context, 1, &messages), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_EQ(info_of(context).device_type, MOEK_DEVICE_TYPE_CUDA);
    EXPECT_EQ(info_of(context).device_index, 1);
    ASSERT_EQ(messages.size(), 2u);
    EXPECT_EQ(messages[0], (std::pair<int32_t, std::string>(MOEK_LOG_LEVEL_INFORMATION, "recorder ready")));
    EXPECT_NE(std::string(moek_build_info()).find("\nsm=sm_00\n"), std::string::npos) << moek_build_info();

    GateConfig config;
    config.select = MOEK_GATE_SELECT_ALL;
    GateCase gate(config, MOEK_DTYPE_F64, 1, 9, 9, std::vector<double>(9, 0.0), {}, 0);
    gate.args.k = 0;
    gate.args.logits_stride = gate.args.dlogits_stride = 0;
    gate.args.temperature = gate.args.weight_scale = 0;
    gate.args.struct_size = offsetof(moek_gate_args, reserved);
    unsigned char workspace[16];
    int stream = 0;
    ASSERT_EQ(moek_gate_forward(context, &gate.args, workspace, sizeof(workspace), &stream), MOEK_STATUS_CODE_OK)
        << last_error();
    const std::vector<double> expected = {sizeof(moek_gate_args), 9, 9, 9, 1, 1, 1};
    for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_EQ(gate.weights.at(0, static_cast<int64_t>(i)), expected[i]) << i;

    // A slot that is null, and a failure with a text from the other side.
    MOEK_EXPECT_ERROR(moek_gate_backward(context, &gate.args, nullptr, 0, nullptr), MOEK_STATUS_CODE_UNSUPPORTED,
                      "this backend does not offer the op");
    GateCase thirteen(config, MOEK_DTYPE_F64, 1, 13, 13, std::vector<double>(13, 0.0), {}, 0);
    MOEK_EXPECT_ERROR(moek_gate_forward(context, &thirteen.args, workspace, sizeof(workspace), nullptr),
                      MOEK_STATUS_CODE_DEVICE, "the recorder dislikes 13");
    EXPECT_EQ(moek_context_destroy(context), MOEK_STATUS_CODE_OK);

    MOEK_EXPECT_ERROR(create_cuda(MOEK_RECORDING_LIBRARY, &context, 2), MOEK_STATUS_CODE_DEVICE,
                      "there is no such device");
    EXPECT_EQ(context, nullptr);
}

}  // namespace
}  // namespace moek::test
