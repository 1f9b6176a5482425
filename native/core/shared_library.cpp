#include "core/shared_library.hpp"

#if defined(_WIN32)
#include <windows.h>

#include <vector>
#else
#include <dlfcn.h>

#include <cstdlib>
#endif

#include "moekernels.h"

namespace moek {

#if defined(_WIN32)

namespace {

std::string to_utf8(const std::wstring& text) {
    if (text.empty()) return {};
    const int length = static_cast<int>(text.size());
    const int size = WideCharToMultiByte(CP_UTF8, 0, text.data(), length, nullptr, 0, nullptr, nullptr);
    std::string result(static_cast<size_t>(size), '\0');
    WideCharToMultiByte(CP_UTF8, 0, text.data(), length, result.data(), size, nullptr, nullptr);
    return result;
}

std::wstring to_wide(const std::string& text) {
    if (text.empty()) return {};
    const int length = static_cast<int>(text.size());
    const int size = MultiByteToWideChar(CP_UTF8, 0, text.data(), length, nullptr, 0);
    std::wstring result(static_cast<size_t>(size), L'\0');
    MultiByteToWideChar(CP_UTF8, 0, text.data(), length, result.data(), size);
    return result;
}

std::string system_error() {
    wchar_t* buffer = nullptr;
    const DWORD code = GetLastError();
    const DWORD length =
        FormatMessageW(FORMAT_MESSAGE_ALLOCATE_BUFFER | FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS,
                       nullptr, code, 0, reinterpret_cast<wchar_t*>(&buffer), 0, nullptr);
    std::wstring text(buffer == nullptr ? L"" : buffer, length);
    LocalFree(buffer);
    while (!text.empty() && (text.back() == L'\n' || text.back() == L'\r' || text.back() == L' ')) text.pop_back();
    return to_utf8(text) + " (error " + std::to_string(code) + ")";
}

}  // namespace

std::string own_folder() {
    HMODULE module = nullptr;
    if (!GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                            reinterpret_cast<const wchar_t*>(&moek_abi_version), &module)) {
        return {};
    }
    // Longest path that Windows knows, so that no path is cut.
    std::vector<wchar_t> buffer(32768);
    const DWORD length = GetModuleFileNameW(module, buffer.data(), static_cast<DWORD>(buffer.size()));
    const std::wstring path(buffer.data(), length);
    return to_utf8(path.substr(0, path.find_last_of(L"\\/") + 1));
}

std::string environment_variable(const char* name) {
    const std::wstring wide_name = to_wide(name);
    const DWORD size = GetEnvironmentVariableW(wide_name.c_str(), nullptr, 0);
    if (size == 0) return {};
    std::vector<wchar_t> buffer(size);
    const DWORD length = GetEnvironmentVariableW(wide_name.c_str(), buffer.data(), size);
    // A value that grew in between is taken as not set, rather than cut.
    return length < size ? to_utf8(std::wstring(buffer.data(), length)) : std::string();
}

void* load_symbol(const std::string& path, const char* symbol, std::string* reason) {
    // With a full path the folder of the library itself is searched for what it depends on.
    const HMODULE module = LoadLibraryExW(to_wide(path).c_str(), nullptr, LOAD_WITH_ALTERED_SEARCH_PATH);
    if (module == nullptr) {
        *reason = system_error();
        return nullptr;
    }
    void* address = reinterpret_cast<void*>(GetProcAddress(module, symbol));
    if (address == nullptr) *reason = system_error();
    return address;
}

#else

std::string own_folder() {
    Dl_info info = {};
    if (dladdr(reinterpret_cast<const void*>(&moek_abi_version), &info) == 0 || info.dli_fname == nullptr) return {};
    const std::string path = info.dli_fname;
    return path.substr(0, path.find_last_of('/') + 1);
}

std::string environment_variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

void* load_symbol(const std::string& path, const char* symbol, std::string* reason) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* address = library == nullptr ? nullptr : dlsym(library, symbol);
    if (address == nullptr) {
        const char* text = dlerror();
        *reason = text == nullptr ? "no reason given" : text;
    }
    return address;
}

#endif

}  // namespace moek
