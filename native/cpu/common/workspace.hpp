// Workspaces come with any alignment. An op asks for a little more than it needs and starts at a cache line.
#pragma once

#include <cstdint>

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

}  // namespace moek::cpu
