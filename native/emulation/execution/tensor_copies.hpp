// Copies of tensor boxes into shared memory that are under way. They belong to no thread: one may be made long after the
// thread that asked for it has finished.
#pragma once

#include <cstdint>
#include <memory>

#include "emulation/tensor_view.hpp"

namespace moek::emulation {

struct Block;
struct MBarrier;

// A box on its way to one block.
struct PendingTensorCopy {
    TensorView view;
    int32_t x;
    int32_t y;
    unsigned char* target;
    Block* block;
    MBarrier* barrier;                       // of that block; counts the bytes
    void (*make)(const PendingTensorCopy&);  // compiled with the kernel, so that sanitizers see its accesses
    Block* issuer;
};

class TensorCopies {
  public:
    static constexpr unsigned kCapacity = 1024;

    bool empty() const { return count_ == 0; }
    bool full() const { return count_ == kCapacity; }
    unsigned count() const { return count_; }
    void clear() {
        count_ = 0;
        for (unsigned i = 0; i < kCapacity; ++i) order_[i] = static_cast<uint16_t>(i);
    }

    // Room must be there. Returns what stands for the copy to ThreadSanitizer.
    void* add(const PendingTensorCopy& copy) {
        const unsigned slot = order_[count_++];
        copies_[slot] = copy;
        return &events_[slot];
    }
    // The i-th oldest.
    PendingTensorCopy& at(unsigned i) { return copies_[order_[i]]; }
    void* event(unsigned i) { return &events_[order_[i]]; }
    void remove(unsigned i) {
        const uint16_t slot = order_[i];
        for (unsigned k = i + 1; k < count_; ++k) order_[k - 1] = order_[k];
        order_[--count_] = slot;
    }

  private:
    // Places, those in use first and from the oldest on.
    std::unique_ptr<uint16_t[]> order_{new uint16_t[kCapacity]};
    std::unique_ptr<PendingTensorCopy[]> copies_{new PendingTensorCopy[kCapacity]};
    std::unique_ptr<uint64_t[]> events_{new uint64_t[kCapacity]};
    unsigned count_ = 0;
};

}  // namespace moek::emulation
