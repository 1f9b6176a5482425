// The shared memory of one block: its dynamic part and the arrays that its functions declare, each between red zones
// that AddressSanitizer knows, filled with NaN.
#pragma once

#include <cstddef>
#include <memory>

namespace moek::emulation {

class SharedArena {
  public:
    SharedArena();
    ~SharedArena();
    SharedArena(const SharedArena&) = delete;
    SharedArena& operator=(const SharedArena&) = delete;

    // Throws away everything that the block before had.
    void begin(size_t dynamic_bytes);

    // The array that `identity` stands for, made when it is asked for the first time; null identity: the dynamic part.
    // Returns null when there is no room.
    void* array(const void* identity, size_t bytes);

    bool holds(const void* address, size_t bytes) const;
    // The place that `address` of another block's arena has in this one's: in the array of the same identity.
    void* counterpart(const SharedArena& other, void* address);
    // What an address within an array is a multiple of wherever the array may lie, as far as its declaration says.
    size_t alignment_of(const void* address) const;
    // The kernel declares the dynamic part with this alignment.
    void declare_dynamic(size_t alignment);
    size_t static_bytes() const { return static_bytes_; }
    size_t dynamic_bytes() const { return dynamic_bytes_; }

    static constexpr size_t kAlignment = 128;
    static constexpr size_t kDynamicAlignment = 1024;

  private:
    static constexpr int kArrays = 64;
    static constexpr size_t kRedZone = 128;
    static constexpr size_t kBytes = 264 * 1024;

    struct Array {
        const void* identity;
        unsigned char* data;
        size_t bytes;
        size_t alignment;  // as declared
    };

    const Array* find(const void* address) const;
    unsigned char* add(const void* identity, size_t bytes);

    unsigned char* memory_;
    size_t used_ = 0;
    size_t static_bytes_ = 0;
    size_t dynamic_bytes_ = 0;
    int count_ = 0;
    Array arrays_[kArrays];
};

}  // namespace moek::emulation
