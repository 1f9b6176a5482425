#include "emulation/execution/stack.hpp"

#include <sys/mman.h>

#include <new>

namespace moek::emulation {
namespace {

// A multiple of every page size in use.
constexpr size_t kGuard = 64 * 1024;

}  // namespace

Stack::Stack()
    : mapping_(
          mmap(nullptr, kGuard + kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (mapping_ == MAP_FAILED || mprotect(mapping_, kGuard, PROT_NONE) != 0) throw std::bad_alloc();
}

Stack::~Stack() {
    if (mapping_ != nullptr) munmap(mapping_, kGuard + kBytes);
}

void* Stack::data() const {
    return static_cast<unsigned char*>(mapping_) + kGuard;
}

}  // namespace moek::emulation
