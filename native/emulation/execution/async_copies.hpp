// The cp.async copies of one thread that have not been made yet.
#pragma once

#include <memory>

namespace moek::emulation {

struct PendingCopy {
    void* target;
    const void* source;
    unsigned bytes;
    unsigned valid_bytes;  // of the source; zeros follow
    unsigned group;
};

class AsyncCopies {
  public:
    static constexpr unsigned kCapacity = 256;

    void clear() {
        count_ = begin_ = 0;
        group_ = 0;
    }
    // False when there is no room.
    bool add(PendingCopy copy) {
        if (count_ == kCapacity) {
            const unsigned kept = count_ - begin_;
            if (kept == kCapacity) return false;
            for (unsigned i = 0; i < kept; ++i) copies_[i] = copies_[begin_ + i];
            begin_ = 0;
            count_ = kept;
        }
        copy.group = group_;
        copies_[count_++] = copy;
        return true;
    }
    void commit() { ++group_; }
    unsigned outstanding() const { return count_ - begin_; }

    // Takes the copies off the queue that are due when at most `pending` committed groups may stay: returns the first and
    // their number. They stay readable until the next `add`.
    const PendingCopy* take_due(unsigned pending, unsigned& count) {
        const PendingCopy* first = copies_.get() + begin_;
        count = 0;
        while (begin_ < count_ && copies_[begin_].group + pending < group_) {
            ++begin_;
            ++count;
        }
        return first;
    }

  private:
    std::unique_ptr<PendingCopy[]> copies_{new PendingCopy[kCapacity]};
    unsigned begin_ = 0;
    unsigned count_ = 0;
    unsigned group_ = 0;
};

}  // namespace moek::emulation
