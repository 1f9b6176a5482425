// The memory of a stack, with a page below it that faults when it is touched.
#pragma once

#include <cstddef>

namespace moek::emulation {

class Stack {
  public:
    Stack();
    ~Stack();
    Stack(Stack&& other) noexcept : mapping_(other.mapping_) { other.mapping_ = nullptr; }
    Stack& operator=(Stack&&) = delete;

    static constexpr size_t kBytes = 256 * 1024;
    void* data() const;

  private:
    void* mapping_;
};

}  // namespace moek::emulation
