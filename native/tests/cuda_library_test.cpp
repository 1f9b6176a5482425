// The CUDA library itself: which devices, drivers and callers it takes, and what it refuses. On the emulation, whose devices are
// what the environment says (emulation/README.md).
#include <gtest/gtest.h>

#if defined(MOEK_EMULATED_LIBRARY)

#include <dlfcn.h>

#include "core/backend.hpp"
#include "tests/support/core_merge_call.hpp"
#include "tests/support/environment.hpp"

namespace moek::test {
namespace {

const char* library() {
    return is_emulated() ? cuda_library() : MOEK_EMULATED_LIBRARY;
}

moek_context_options cuda_options(int32_t device_index = 0) {
    moek_context_options options = {};
    options.struct_size = sizeof(options);
    options.device_type = MOEK_DEVICE_TYPE_CUDA;
    options.cuda_library = library();
    options.device_index = device_index;
    return options;
}

void expect_refused(const moek_context_options& options, moek_status status, const char* text) {
    moek_context* context = nullptr;
    MOEK_EXPECT_ERROR(moek_context_create(&options, &context), status, text);
    EXPECT_EQ(context, nullptr);
}

// A function of the library.
template <class Function>
Function* find(const char* name) {
    void* handle = dlopen(library(), RTLD_NOW);
    return handle == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(handle, name));
}

TEST(CudaLibraryItself, MakesContexts) {
    const moek_context_options options = cuda_options();
    moek_context* context = nullptr;
    ASSERT_EQ(moek_context_create(&options, &context), MOEK_STATUS_CODE_OK) << last_error();
    moek_context_info info = {};
    info.struct_size = sizeof(info);
    EXPECT_EQ(moek_context_query(context, &info), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_EQ(info.device_type, MOEK_DEVICE_TYPE_CUDA);
    EXPECT_EQ(info.device_index, 0);
    EXPECT_EQ(info.thread_count, 0);
    EXPECT_EQ(info.isa, MOEK_ISA_AUTO);
    EXPECT_EQ(moek_context_destroy(context), MOEK_STATUS_CODE_OK);
}

TEST(CudaLibraryItself, RefusesOptionsOfTheCpu) {
    moek_context_options options = cuda_options();
    options.isa = MOEK_ISA_SCALAR;
    expect_refused(options, MOEK_STATUS_CODE_INVALID_ARGUMENT, "expected MOEK_ISA_AUTO (0) on a CUDA device");
    options = cuda_options();
    options.thread_count = 3;
    expect_refused(options, MOEK_STATUS_CODE_INVALID_ARGUMENT, "thread_count: got 3, expected 0 on a CUDA device");
}

TEST(CudaLibraryItself, RefusesDevicesThatItCannotUse) {
    expect_refused(cuda_options(1), MOEK_STATUS_CODE_INVALID_ARGUMENT, "device_index: got 1, expected 0..0");
    {
        const Environment capability("MOEK_EMULATION_CAPABILITY", "75");
        expect_refused(cuda_options(), MOEK_STATUS_CODE_BACKEND_UNAVAILABLE,
                       "device 0 has compute capability 7.5, expected 8.0 or newer");
    }
    const Environment devices("MOEK_EMULATION_DEVICES", "0");
    expect_refused(cuda_options(), MOEK_STATUS_CODE_BACKEND_UNAVAILABLE,
                   "there is no CUDA device, or CUDA_VISIBLE_DEVICES hides it");
}

// Through the entry itself: the core asks a library once and keeps what it said.
class CudaLibraryEntry {
  public:
    static inline std::string text;
    static void fail(const char* message) { text = message; }
    static moek_status call(uint32_t version) {
        const auto entry = find<moek_status(const moek_backend_host*, const moek_backend**)>("moek_cuda_backend");
        const moek_backend* backend = nullptr;
        const moek_backend_host host = {sizeof(moek_backend_host), version, fail};
        text.clear();
        return entry(&host, &backend);
    }
};

TEST(CudaLibraryItself, RefusesACoreOfAnotherVersion) {
    EXPECT_EQ(CudaLibraryEntry::call(MOEK_BACKEND_VERSION + 1), MOEK_STATUS_CODE_BACKEND_UNAVAILABLE);
    EXPECT_EQ(CudaLibraryEntry::text, "it belongs to another version of MoEKernels");
}

// The texts end at another host from then on, so that this runs in a copy of the process.
void enter_without_driver(const char* driver) {
    const Environment version("MOEK_EMULATION_DRIVER", driver);
    const moek_status status = CudaLibraryEntry::call(MOEK_BACKEND_VERSION);
    std::fprintf(stderr, "%d %s\n", status, CudaLibraryEntry::text.c_str());
    std::exit(0);
}

TEST(CudaLibraryItself, RefusesDriversThatAreTooOld) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const std::string unavailable = std::to_string(MOEK_STATUS_CODE_BACKEND_UNAVAILABLE);
    EXPECT_EXIT(enter_without_driver("0"), testing::ExitedWithCode(0), unavailable + " no NVIDIA driver is installed");
    EXPECT_EXIT(enter_without_driver("11080"), testing::ExitedWithCode(0),
                unavailable + " the NVIDIA driver is too old: it offers CUDA 11.8, expected 12.0 or newer");
}

TEST(CudaLibraryItself, LeavesTheCurrentDeviceAsItWas) {
    const Environment devices("MOEK_EMULATION_DEVICES", "2");
    const auto get_device = find<int(int*)>("cudaGetDevice");
    const auto set_device = find<int(int)>("cudaSetDevice");
    const auto current = [&] {
        int device = -1;
        EXPECT_EQ(get_device(&device), 0);
        return device;
    };
    expect_refused(cuda_options(2), MOEK_STATUS_CODE_INVALID_ARGUMENT, "device_index: got 2, expected 0..1");
    const moek_context_options options = cuda_options(1);
    moek_context* context = nullptr;
    ASSERT_EQ(moek_context_create(&options, &context), MOEK_STATUS_CODE_OK) << last_error();
    for (const int before : {0, 1}) {
        EXPECT_EQ(set_device(before), 0);
        void* memory = nullptr;
        EXPECT_EQ(moek_memory_allocate(context, 64, &memory), MOEK_STATUS_CODE_OK) << last_error();
        EXPECT_EQ(current(), before);
        EXPECT_EQ(moek_memory_free(context, memory), MOEK_STATUS_CODE_OK) << last_error();
        EXPECT_EQ(moek_memory_allocate(context, uint64_t{1} << 60, &memory), MOEK_STATUS_CODE_OUT_OF_MEMORY);
        EXPECT_EQ(current(), before);
    }
    EXPECT_EQ(set_device(0), 0);
    EXPECT_EQ(moek_context_destroy(context), MOEK_STATUS_CODE_OK);
}

TEST(CudaLibraryItself, CountsDevices) {
    const Environment path("MOEKERNELS_CUDA_LIBRARY", library());
    const Environment devices("MOEK_EMULATION_DEVICES", "3");
    int32_t count = 0;
    EXPECT_EQ(moek_device_count(MOEK_DEVICE_TYPE_CUDA, &count), MOEK_STATUS_CODE_OK) << last_error();
    EXPECT_EQ(count, 3);
}

TEST(CudaLibraryItself, RefusesSizesBeyondAGridAndWhatOnlyTheCpuHas) {
    const moek_context_options options = cuda_options();
    moek_context* context = nullptr;
    ASSERT_EQ(moek_context_create(&options, &context), MOEK_STATUS_CODE_OK) << last_error();
    Random random;
    CoreMergeCase c;
    c.dtypes = {MOEK_DTYPE_F32, MOEK_DTYPE_F32};
    c.router = MOEK_CORE_ROUTER_CORE;
    CoreMergeCall call(c, random);
    const auto expect_unsupported = [&](auto change, const char* text) {
        moek_core_merge_args args = call.args;
        // Dense.
        args.x_stride = args.y_stride = args.A_stride = args.B_stride = args.W_g_stride = args.dy_stride = 0;
        args.dx_stride = args.dA_stride = args.dB_stride = args.dW_g_stride = 0;
        change(args);
        uint64_t bytes = 0;
        MOEK_EXPECT_ERROR(moek_core_merge_forward_workspace(context, &args, &bytes), MOEK_STATUS_CODE_UNSUPPORTED,
                          text);
    };
    expect_unsupported([](auto& args) { args.d_in = 128 * 65535 + 1; }, "d_in: got 8388481, a GPU takes up to 8388480");
    expect_unsupported(
        [](auto& args) {
            args.E = 4096;
            args.r = 1 << 19;
        },
        "E * r: got 4096 * 524288, a GPU takes up to 1073741824");
    expect_unsupported([](auto& args) { args.flags = MOEK_CALL_FLAG_STRICT; },
                       "MOEK_CALL_FLAG_STRICT runs on the CPU only: a GPU cannot report a NaN without waiting for it");
    EXPECT_EQ(moek_context_destroy(context), MOEK_STATUS_CODE_OK);
}

}  // namespace
}  // namespace moek::test

#endif
