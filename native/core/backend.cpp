#include "core/backend.hpp"

#include <map>
#include <mutex>
#include <string>

#include "core/check.hpp"
#include "core/error.hpp"
#include "core/shared_library.hpp"

namespace moek {
namespace {

#if defined(_WIN32)
constexpr const char* kCudaLibraryName = "moekernels_cuda.dll";
#elif defined(__APPLE__)
constexpr const char* kCudaLibraryName = "libmoekernels_cuda.dylib";
#else
constexpr const char* kCudaLibraryName = "libmoekernels_cuda.so";
#endif
constexpr const char* kCudaEntryName = "moek_cuda_backend";
constexpr const char* kCudaLibraryVariable = "MOEKERNELS_CUDA_LIBRARY";

void fail_from_backend(const char* message) {
    set_last_error(message == nullptr ? "" : message);
}

const moek_backend_host kHost = {sizeof(moek_backend_host), MOEK_BACKEND_VERSION, fail_from_backend};

std::mutex g_mutex;
std::map<std::string, const moek_backend*> g_backends;

[[noreturn]] void fail_unavailable(const std::string& path, const std::string& reason) {
    throw Error(MOEK_STATUS_CODE_BACKEND_UNAVAILABLE, "the CUDA backend cannot be used: " + path + ": " + reason);
}

const moek_backend* load(const std::string& path) {
    std::string reason;
    void* symbol = load_symbol(path, kCudaEntryName, &reason);
    if (symbol == nullptr) fail_unavailable(path, reason);

    const moek_backend* backend = nullptr;
    set_last_error("");
    const moek_status status = reinterpret_cast<moek_backend_entry>(symbol)(&kHost, &backend);
    if (status != MOEK_STATUS_CODE_OK) {
        const std::string text = last_error();
        fail_unavailable(path, text.empty() ? moek_status_name(status) : text);
    }
    if (backend == nullptr || backend->version != MOEK_BACKEND_VERSION ||
        backend->struct_size != sizeof(moek_backend)) {
        fail_unavailable(path, "it belongs to another version of MoEKernels (got backend version " +
                                   std::to_string(backend == nullptr ? 0 : backend->version) + ", expected " +
                                   std::to_string(MOEK_BACKEND_VERSION) + ")");
    }
    return backend;
}

}  // namespace

const moek_backend& cuda_backend(const char* path) {
    std::string full_path = path == nullptr ? "" : path;
    if (full_path.empty()) full_path = environment_variable(kCudaLibraryVariable);
    if (full_path.empty()) full_path = own_folder() + kCudaLibraryName;
    const std::lock_guard lock(g_mutex);
    const auto known = g_backends.find(full_path);
    if (known != g_backends.end()) return *known->second;
    const moek_backend* backend = load(full_path);
    g_backends.emplace(full_path, backend);
    return *backend;
}

const moek_backend* loaded_cuda_backend() {
    const std::lock_guard lock(g_mutex);
    return g_backends.empty() ? nullptr : g_backends.begin()->second;
}

const moek_backend& backend_of(int32_t device_type, const char* cuda_library) {
    check_enum("device_type", device_type, 2, "moek_device_type");
    return device_type == MOEK_DEVICE_TYPE_CPU ? cpu_backend() : cuda_backend(cuda_library);
}

}  // namespace moek
