// Scratch memory for blocks of a parallel loop: as many slots as threads can be inside the loop at once.
#pragma once

#include <atomic>
#include <cstdint>

namespace moek::cpu {

// Slots in a buffer of the caller, usually a part of an op's workspace. A block leases one while it runs; which one is
// open, so a block must not read what it has not written. Nothing is allocated.
class ScratchSlots {
  public:
    static constexpr int64_t kAlignment = 64;

    // Bytes for `threads` slots of `slot_bytes` each, alignment included.
    static uint64_t bytes(int32_t threads, int64_t slot_bytes);

    // `buffer` holds bytes(threads, slot_bytes) and need not be aligned.
    ScratchSlots(void* buffer, int32_t threads, int64_t slot_bytes);
    ScratchSlots(const ScratchSlots&) = delete;
    ScratchSlots& operator=(const ScratchSlots&) = delete;

    class Lease {
      public:
        explicit Lease(ScratchSlots& slots) : slots_(slots), slot_(slots.acquire()) {}
        ~Lease() { slots_.release(slot_); }
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;

        // Aligned to kAlignment.
        void* data() const { return slots_.base_ + slot_ * slots_.slot_bytes_; }

      private:
        ScratchSlots& slots_;
        int64_t slot_;
    };

  private:
    // More threads than this wait for each other's slots.
    static constexpr int64_t kMostSlots = 256;

    int64_t acquire();
    void release(int64_t slot);

    unsigned char* base_;
    int64_t slot_bytes_;
    int64_t slots_;
    std::atomic<bool> taken_[kMostSlots] = {};
};

}  // namespace moek::cpu
