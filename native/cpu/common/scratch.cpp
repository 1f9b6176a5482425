#include "cpu/common/scratch.hpp"

#include <algorithm>
#include <thread>

namespace moek::cpu {
namespace {

int64_t aligned(int64_t bytes) {
    return (bytes + ScratchSlots::kAlignment - 1) / ScratchSlots::kAlignment * ScratchSlots::kAlignment;
}

}  // namespace

uint64_t ScratchSlots::bytes(int32_t threads, int64_t slot_bytes) {
    return static_cast<uint64_t>(kAlignment + std::min<int64_t>(threads, kMostSlots) * aligned(slot_bytes));
}

ScratchSlots::ScratchSlots(void* buffer, int32_t threads, int64_t slot_bytes)
    : slot_bytes_(aligned(slot_bytes)), slots_(std::min<int64_t>(threads, kMostSlots)) {
    const auto address = reinterpret_cast<uintptr_t>(buffer);
    base_ = static_cast<unsigned char*>(buffer) + (kAlignment - address % kAlignment) % kAlignment;
}

int64_t ScratchSlots::acquire() {
    for (;;) {
        for (int64_t slot = 0; slot < slots_; ++slot) {
            if (!taken_[slot].exchange(true, std::memory_order_acquire)) return slot;
        }
        std::this_thread::yield();
    }
}

void ScratchSlots::release(int64_t slot) {
    taken_[slot].store(false, std::memory_order_release);
}

}  // namespace moek::cpu
