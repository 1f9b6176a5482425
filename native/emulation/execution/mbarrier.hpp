// The mbarriers of a block: objects in shared memory that count threads' arrivals and the bytes of copies.
//
// The kernel's eight bytes hold a mark only, by which it shows when something else is written over them.
#pragma once

#include <cstdint>
#include <memory>
#include <source_location>

namespace moek::emulation {

struct MBarrier {
    unsigned char* place = nullptr;
    unsigned expected = 0;  // arrivals in a phase
    unsigned missing = 0;   // of those of this phase
    // That were announced in this phase and have not come. Below 0: they came before they were announced.
    int bytes = 0;
    unsigned phase = 0;   // phases completed
    bool fenced = false;  // whether anybody but the thread that initialised it may rely on that
    uint64_t order[2];    // for ThreadSanitizer, of even and odd phases
    void* phase_order() { return &order[phase % 2]; }
};

class MBarriers {
  public:
    static constexpr unsigned kCapacity = 64;

    void clear() { count_ = 0; }
    // Null when there is no room.
    MBarrier* add(unsigned char* place) {
        if (count_ == kCapacity) return nullptr;
        MBarrier& added = barriers_[count_++];
        added.place = place;
        return &added;
    }
    MBarrier* find(const void* place) {
        for (unsigned i = 0; i < count_; ++i) {
            if (barriers_[i].place == place) return &barriers_[i];
        }
        return nullptr;
    }
    MBarrier* begin() { return barriers_.get(); }
    MBarrier* end() { return barriers_.get() + count_; }

  private:
    std::unique_ptr<MBarrier[]> barriers_{new MBarrier[kCapacity]};
    unsigned count_ = 0;
};

struct Block;

// mbarrier.init of a barrier of this block.
void mbarrier_init(void* barrier, unsigned arrivals, std::source_location where = std::source_location::current());
// fence.mbarrier_init.release.cluster: what this thread has initialised exists for others.
void mbarrier_fence_init();
// mbarrier.arrive.expect_tx at a barrier of this block: announces bytes, then arrives.
void mbarrier_arrive_expect(void* barrier, unsigned bytes,
                            std::source_location where = std::source_location::current());
// mbarrier.arrive at the barrier that the cluster's block `rank` has in this place.
void mbarrier_arrive_at(void* barrier, unsigned rank, std::source_location where = std::source_location::current());
// mbarrier.try_wait.parity until it returns true: until the phase of this parity has completed.
void mbarrier_wait(void* barrier, unsigned parity, std::source_location where = std::source_location::current());

// The barrier of `block` at `address`. Fails unless it can be used by any thread.
MBarrier& usable_mbarrier(Block& block, void* address, const char* operation, std::source_location where);

}  // namespace moek::emulation
