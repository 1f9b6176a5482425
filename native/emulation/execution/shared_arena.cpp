#include "emulation/execution/shared_arena.hpp"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "emulation/execution/sanitizers.hpp"

namespace moek::emulation {
namespace {

constexpr size_t round_up(size_t bytes) {
    return (bytes + SharedArena::kAlignment - 1) / SharedArena::kAlignment * SharedArena::kAlignment;
}

}  // namespace

SharedArena::SharedArena() {
    void* memory = nullptr;
    if (posix_memalign(&memory, kDynamicAlignment, kBytes) != 0) throw std::bad_alloc();
    memory_ = static_cast<unsigned char*>(memory);
    poison(memory_, kBytes);
}

SharedArena::~SharedArena() {
    unpoison(memory_, kBytes);
    std::free(memory_);
}

void SharedArena::begin(size_t dynamic_bytes) {
    poison(memory_, used_);
    used_ = kDynamicAlignment;  // a red zone, and the dynamic part where it may be asked to lie
    count_ = 0;
    static_bytes_ = 0;
    dynamic_bytes_ = dynamic_bytes;
    add(nullptr, dynamic_bytes);
}

void* SharedArena::array(const void* identity, size_t bytes) {
    for (int i = 0; i < count_; ++i) {
        if (arrays_[i].identity == identity) return arrays_[i].data;
    }
    if (count_ == kArrays || used_ + round_up(bytes) + kRedZone > kBytes) return nullptr;
    static_bytes_ += round_up(bytes);
    return add(identity, bytes);
}

bool SharedArena::holds(const void* address, size_t bytes) const {
    const unsigned char* first = static_cast<const unsigned char*>(address);
    for (int i = 0; i < count_; ++i) {
        if (first >= arrays_[i].data && first + bytes <= arrays_[i].data + arrays_[i].bytes) return true;
    }
    return false;
}

const SharedArena::Array* SharedArena::find(const void* address) const {
    for (int i = 0; i < count_; ++i) {
        if (address >= arrays_[i].data && address < arrays_[i].data + arrays_[i].bytes) return &arrays_[i];
    }
    return nullptr;
}

void* SharedArena::counterpart(const SharedArena& other, void* address) {
    const Array* const theirs = other.find(address);
    if (theirs == nullptr) return nullptr;
    // This block may not have come to the array yet.
    unsigned char* const mine = static_cast<unsigned char*>(array(theirs->identity, theirs->bytes));
    return mine + (static_cast<unsigned char*>(address) - theirs->data);
}

size_t SharedArena::alignment_of(const void* address) const {
    const Array* const found = find(address);
    if (found == nullptr) return 1;
    const size_t offset = static_cast<size_t>(static_cast<const unsigned char*>(address) - found->data);
    const size_t own = offset & (~offset + 1);  // its lowest bit
    return offset == 0 ? found->alignment : std::min(found->alignment, own);
}

void SharedArena::declare_dynamic(size_t alignment) {
    arrays_[0].alignment = std::max(arrays_[0].alignment, alignment);
}

unsigned char* SharedArena::add(const void* identity, size_t bytes) {
    unsigned char* data = memory_ + used_;
    arrays_[count_++] = {identity, data, bytes, kAlignment};
    used_ += round_up(bytes) + kRedZone;
    unpoison(data, bytes);
    // No memset: ThreadSanitizer would take it for an access by the thread that happens to run.
    for (size_t i = 0; i < bytes; ++i) data[i] = 0xFF;
    return data;
}

}  // namespace moek::emulation
