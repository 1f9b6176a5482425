// The parts of a caller's workspace.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moek::cuda {

// Hands out the parts of a workspace; without one it only adds up their sizes. So one function both places what an op
// needs and tells how much that is.
class Workspace {
  public:
    // The workspace may start anywhere.
    explicit Workspace(void* memory)
        : next_((reinterpret_cast<uintptr_t>(memory) + kAlignment - 1) / kAlignment * kAlignment),
          exists_(memory != nullptr) {}

    // Aligned to 256 bytes. Null without a workspace, and for nothing.
    template <class Element>
    Element* take(uint64_t count) {
        return static_cast<Element*>(take_bytes(count * sizeof(Element)));
    }

    void* take_bytes(uint64_t bytes) {
        if (bytes == 0) return nullptr;
        void* const place = exists_ ? reinterpret_cast<void*>(next_ + taken_) : nullptr;
        taken_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
        return place;
    }

    // What a caller has to bring, wherever it starts.
    uint64_t bytes() const { return taken_ == 0 ? 0 : taken_ + kAlignment - 1; }

  private:
    static constexpr uintptr_t kAlignment = 256;

    uintptr_t next_;
    bool exists_;
    uint64_t taken_ = 0;
};

}  // namespace moek::cuda
