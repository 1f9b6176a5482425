#include <string>

#include "core/backend.hpp"
#include "moekernels.h"

namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "gcc " __VERSION__;
#elif defined(_MSC_VER)
#define MOEK_TEXT_OF(x) #x
#define MOEK_TEXT(x) MOEK_TEXT_OF(x)
constexpr const char* kCompiler = "msvc " MOEK_TEXT(_MSC_FULL_VER);
#else
constexpr const char* kCompiler = "unknown";
#endif

#if defined(NDEBUG)
constexpr const char* kBuild = "release";
#else
constexpr const char* kBuild = "debug";
#endif

#if defined(MOEK_HAVE_X86_ISAS)
constexpr const char* kIsas = "scalar,avx2,avx512,avx512_bf16";
#elif defined(__aarch64__) || defined(_M_ARM64)
constexpr const char* kIsas = "scalar,neon";
#else
constexpr const char* kIsas = "scalar";
#endif

std::string compose(const char* sm) {
    return std::string("version=") + MOEKERNELS_VERSION + "\ncommit=" + MOEKERNELS_COMMIT + "\ncompiler=" + kCompiler +
           "\nbuild=" + kBuild + "\nisa=" + kIsas + "\nsm=" + sm + "\n";
}

}  // namespace

int32_t moek_abi_version(void) {
    return MOEK_ABI_VERSION;
}

const char* moek_build_info(void) {
    // Two texts, each made once, so that a pointer handed out earlier stays valid when the CUDA library is loaded
    // later.
    try {
        const moek_backend* cuda = moek::loaded_cuda_backend();
        if (cuda != nullptr && cuda->targets != nullptr) {
            static const std::string with_cuda = compose(cuda->targets);
            return with_cuda.c_str();
        }
        static const std::string without_cuda = compose("");
        return without_cuda.c_str();
    } catch (...) {
        return "";
    }
}
