// Workspaces come with any alignment. An op asks for a little more than it needs and starts at a cache line.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "core/check.hpp"

namespace moek::cpu {

constexpr uint64_t kWorkspaceAlignment = 64;

// Bytes to ask for, for `count` elements; 0 for none.
template <class Element>
uint64_t workspace_size(int64_t count) {
    return count == 0 ? 0 : static_cast<uint64_t>(count) * sizeof(Element) + kWorkspaceAlignment - 1;
}

// The first cache line in the workspace.
template <class Element>
Element* align_workspace(void* workspace) {
    const auto address = reinterpret_cast<uintptr_t>(workspace);
    return reinterpret_cast<Element*>((address + kWorkspaceAlignment - 1) & ~uintptr_t{kWorkspaceAlignment - 1});
}

// Hands out pieces of a workspace. The same code asks for its size, over a null pointer, and uses it.
class Workspace {
  public:
    explicit Workspace(void* workspace) : next_(align_workspace<unsigned char>(workspace)) {}

    // A piece [rows, columns], at the start of a cache line; null over a null pointer. Sizes are not negative, and rows
    // count tokens wherever their product can be large.
    void* take(int64_t rows, int64_t columns, size_t element_size) {
        constexpr uint64_t kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 4;
        const bool too_wide = static_cast<uint64_t>(columns) > kMost / element_size;
        const uint64_t row_bytes = too_wide ? kMost : static_cast<uint64_t>(columns) * element_size;
        if (row_bytes != 0 && static_cast<uint64_t>(rows) > (kMost - bytes_) / row_bytes) {
            fail_argument("T", std::to_string(rows), "a number of tokens whose workspace fits in the address space");
        }
        const uint64_t lines =
            (static_cast<uint64_t>(rows) * row_bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment;
        void* piece = next_;
        bytes_ += lines * kWorkspaceAlignment;
        if (next_ != nullptr) next_ += lines * kWorkspaceAlignment;
        return piece;
    }

    // Bytes that hold all pieces so far, wherever the workspace starts.
    uint64_t bytes() const { return bytes_ == 0 ? 0 : bytes_ + kWorkspaceAlignment - 1; }

  private:
    unsigned char* next_;
    uint64_t bytes_ = 0;
};

}  // namespace moek::cpu
