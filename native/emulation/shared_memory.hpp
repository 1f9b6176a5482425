// Shared memory of a block, for the macros of cuda/common/shared_memory.hpp.
#pragma once

#include <cstddef>
#include <source_location>

namespace moek::emulation {

// The block's array that `identity` stands for: the same memory for all threads of the block.
void* static_shared(const void* identity, size_t bytes, std::source_location where = std::source_location::current());

// The bytes that the launch asked for, which the kernel declares with an alignment.
void* dynamic_shared(size_t alignment);

// Fails unless the bytes lie in one array of the running block and are aligned to `alignment`.
void check_shared(const void* address, size_t bytes, size_t alignment, const char* operation,
                  std::source_location where);

}  // namespace moek::emulation
