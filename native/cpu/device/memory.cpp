#include "cpu/device/memory.hpp"

#include <cstring>
#include <new>

#if defined(_WIN32)
#include <windows.h>
#elif defined(__unix__)
#include <unistd.h>
#endif

namespace moek::cpu {
namespace {

// What the header promises; a cache line, and what the widest vectors like.
constexpr std::align_val_t kAlignment{64};

#if defined(__unix__) && defined(_SC_PHYS_PAGES) && defined(_SC_AVPHYS_PAGES)
uint64_t bytes_of_pages(int count_name) {
    const long pages = sysconf(count_name);
    const long page_size = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_size > 0 ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_size) : 0;
}
uint64_t available_memory() {
    return bytes_of_pages(_SC_AVPHYS_PAGES);
}
#elif defined(_WIN32)
uint64_t available_memory() {
    MEMORYSTATUSEX status = {};
    status.dwLength = sizeof(status);
    return GlobalMemoryStatusEx(&status) ? status.ullAvailPhys : 0;
}
#else
uint64_t available_memory() {
    return 0;
}
#endif

}  // namespace

uint64_t physical_memory() {
#if defined(_WIN32)
    MEMORYSTATUSEX status = {};
    status.dwLength = sizeof(status);
    return GlobalMemoryStatusEx(&status) ? status.ullTotalPhys : 0;
#elif defined(__unix__) && defined(_SC_PHYS_PAGES) && defined(_SC_AVPHYS_PAGES)
    return bytes_of_pages(_SC_PHYS_PAGES);
#else
    return 0;
#endif
}

moek_status memory_query(void*, uint64_t* out_free, uint64_t* out_total) {
    *out_free = available_memory();
    *out_total = physical_memory();
    return MOEK_STATUS_CODE_OK;
}

moek_status memory_allocate(void*, uint64_t bytes, void** out_memory) {
    *out_memory = ::operator new(static_cast<size_t>(bytes), kAlignment);
    return MOEK_STATUS_CODE_OK;
}

moek_status memory_free(void*, void* memory) {
    ::operator delete(memory, kAlignment);
    return MOEK_STATUS_CODE_OK;
}

moek_status memory_copy(void*, void* destination, const void* source, uint64_t bytes, int32_t, void*) {
    std::memcpy(destination, source, static_cast<size_t>(bytes));
    return MOEK_STATUS_CODE_OK;
}

moek_status memory_set(void*, void* destination, int32_t value, uint64_t bytes, void*) {
    std::memset(destination, value, static_cast<size_t>(bytes));
    return MOEK_STATUS_CODE_OK;
}

}  // namespace moek::cpu
