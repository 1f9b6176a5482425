// The device that the tests run on: the CPU, or with MOEK_TEST_DEVICE=cuda the CUDA library at MOEK_TEST_CUDA_LIBRARY (none:
// the one beside moekernels), which may be the real one or the emulated one.
//
// On a GPU tests keep their tensors in pinned host memory, which both sides can reach: the same test then runs anywhere.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "moekernels.h"

#if defined(__unix__)
#include <dlfcn.h>
#endif

namespace moek::test {

inline bool on_cuda() {
    static const bool result = [] {
        const char* name = std::getenv("MOEK_TEST_DEVICE");
        return name != nullptr && std::strcmp(name, "cuda") == 0;
    }();
    return result;
}

// Null: the library beside moekernels.
inline const char* cuda_library() {
    return std::getenv("MOEK_TEST_CUDA_LIBRARY");
}

// The first fields of a context's options, for the device under test.
inline moek_context_options device_options() {
    moek_context_options options = {};
    options.struct_size = sizeof(options);
    if (on_cuda()) {
        options.device_type = MOEK_DEVICE_TYPE_CUDA;
        options.cuda_library = cuda_library();
    }
    return options;
}

// Whether kernels are executed on the CPU: slow, and every host pointer is a device pointer.
inline bool is_emulated() {
    static const bool result = [] {
        moek_context_options options = device_options();
        moek_context* context = nullptr;
        if (!on_cuda() || moek_context_create(&options, &context) != MOEK_STATUS_CODE_OK) return false;
        moek_context_destroy(context);
        return std::strstr(moek_build_info(), "sm=emulated") != nullptr;
    }();
    return result;
}

// The type for tests that want no rounding in their way: a GPU has no f64.
inline int32_t finest_dtype() {
    return on_cuda() ? MOEK_DTYPE_F32 : MOEK_DTYPE_F64;
}

// Those of the types that the device has.
inline std::vector<int32_t> on_this_device(std::vector<int32_t> dtypes) {
    if (on_cuda()) std::erase(dtypes, static_cast<int32_t>(MOEK_DTYPE_F64));
    return dtypes;
}

// A tolerance that f64 earns, or that of f32 on a device without it.
inline double fine(double tolerance) {
    return on_cuda() ? std::max(tolerance, 5e-6) : tolerance;
}

// The relative error of an operand that is made for a tensor core: half a unit of x's type, where that has 16 bits, or of tf32.
inline double operand_rounding(int32_t x_dtype, uint32_t flags = 0) {
    if (!on_cuda()) return 0;
    if (x_dtype == MOEK_DTYPE_F32 && (flags & MOEK_CALL_FLAG_ALLOW_TF32) != 0) return 0x1p-12;
    return x_dtype == MOEK_DTYPE_BF16 ? 0x1p-9 : x_dtype == MOEK_DTYPE_F16 ? 0x1p-12 : 0;
}

#if defined(__unix__)
// The driver's own functions: the CUDA runtime inside the library under test shows none.
class CudaDriver {
  public:
    static const CudaDriver& instance() {
        static const CudaDriver driver;
        return driver;
    }

    void* allocate(size_t bytes) const {
        constexpr unsigned kPortableAndMapped = 1 | 2;
        enter();
        void* memory = nullptr;
        check(host_alloc_(&memory, bytes, kPortableAndMapped), "cuMemHostAlloc");
        return memory;
    }
    void free(void* memory) const {
        enter();
        check(host_free_(memory), "cuMemFreeHost");
    }
    void synchronize() const {
        enter();
        check(synchronize_(), "cuCtxSynchronize");
    }

  private:
    CudaDriver() {
        void* library = dlopen("libcuda.so.1", RTLD_NOW);
        if (library == nullptr) fail(dlerror());
        const auto find = [&](const char* name, auto& function) {
            function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
            if (function == nullptr) fail(dlerror());
        };
        int (*init)(unsigned) = nullptr;
        int (*retain)(void**, int) = nullptr;
        find("cuInit", init);
        find("cuDevicePrimaryCtxRetain", retain);
        find("cuCtxSetCurrent", set_current_);
        find("cuMemHostAlloc", host_alloc_);
        find("cuMemFreeHost", host_free_);
        find("cuCtxSynchronize", synchronize_);
        check(init(0), "cuInit");
        check(retain(&context_, 0), "cuDevicePrimaryCtxRetain");
    }

    // Contexts are current per thread, and tests have several.
    void enter() const { check(set_current_(context_), "cuCtxSetCurrent"); }

    [[noreturn]] static void fail(const char* what) {
        std::fprintf(stderr, "the tests cannot use the GPU: %s\n", what);
        std::exit(3);
    }
    static void check(int result, const char* call) {
        if (result == 0) return;
        // A failed kernel shows here; whatever ran after it means nothing.
        std::fprintf(stderr, "%s failed with CUDA error %d\n", call, result);
        std::exit(3);
    }

    void* context_ = nullptr;
    int (*set_current_)(void*) = nullptr;
    int (*host_alloc_)(void**, size_t, unsigned) = nullptr;
    int (*host_free_)(void*) = nullptr;
    int (*synchronize_)() = nullptr;
};
#endif

inline bool on_real_gpu() {
    return on_cuda() && !is_emulated();
}

// What a call on the null stream has started is done when this returns.
inline void wait_for_device() {
#if defined(__unix__)
    if (on_real_gpu()) CudaDriver::instance().synchronize();
#endif
}

// Memory that the device under test can read and write.
struct DeviceDelete {
    void operator()(unsigned char* memory) const {
#if defined(__unix__)
        if (on_real_gpu()) return CudaDriver::instance().free(memory);
#endif
        ::operator delete(memory);
    }
};

using DeviceBytes = std::unique_ptr<unsigned char[], DeviceDelete>;

inline DeviceBytes allocate_bytes(size_t size) {
#if defined(__unix__)
    if (on_real_gpu()) return DeviceBytes(static_cast<unsigned char*>(CudaDriver::instance().allocate(size)));
#endif
    return DeviceBytes(static_cast<unsigned char*>(::operator new(size)));
}

}  // namespace moek::test
