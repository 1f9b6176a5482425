// The state of the blocks that are running: their threads, warps, barriers and shared memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <vector>

#include "emulation/execution/async_copies.hpp"
#include "emulation/execution/barrier.hpp"
#include "emulation/execution/cluster.hpp"
#include "emulation/execution/mbarrier.hpp"
#include "emulation/execution/rendezvous.hpp"
#include "emulation/execution/shared_arena.hpp"
#include "emulation/execution/stack.hpp"
#include "emulation/execution/strand.hpp"
#include "emulation/execution/thread.hpp"

namespace moek::emulation {

struct Block;
struct Fiber;

// Lanes of one mask on their way to each other. Two sets of slots, used in turn: a fast lane may be at its next meeting
// while a slow one still reads the last.
struct Rendezvous {
    uint32_t mask = 0;
    uint32_t arrived = 0;
    unsigned holders = 0;  // lanes that wait here or may still read the slots
    unsigned generation = 0;
    WarpOperation operation = WarpOperation::kSyncWarp;
    Slot slots[2][32];
};

struct Warp {
    Block* block = nullptr;
    uint32_t existing = 0;
    uint32_t ready = 0;
    uint32_t at_barrier = 0;
    uint32_t at_cluster = 0;   // in barrier.cluster.wait
    uint32_t at_mbarrier = 0;  // in mbarrier.try_wait
    Fiber* lanes[32] = {};
    // Each lane holds one at most, so that there always is a free one.
    std::unique_ptr<Rendezvous[]> meetings{new Rendezvous[32]};
};

struct Block {
    uint3 index = {};
    std::vector<Warp> warps;
    SharedArena shared;
    MBarriers mbarriers;
    Cluster* cluster = nullptr;
    unsigned rank = 0;       // in the cluster
    void* copier = nullptr;  // ThreadSanitizer's identity of what makes the block's tensor copies

    unsigned live = 0;  // threads that have not finished
    unsigned at_barrier = 0;
    unsigned barrier_generation = 0;
    BarrierOperation barrier_operation = BarrierOperation::kPlain;
    std::source_location barrier_place;
    unsigned barrier_count = 0;  // of true predicates so far
    int barrier_result[2] = {};

    // Addresses that stand for what orders memory accesses, for ThreadSanitizer: the start; the ends of this block
    // and of the one before it in the same place; two for the barrier's generations, and two for each meeting of each warp.
    unsigned round = 0;  // blocks so far in this place
    std::vector<uint64_t> order;
    void* start_order() { return order.data(); }
    void* end_order() { return order.data() + 1 + round % 2; }
    void* former_end_order() { return order.data() + 1 + (round + 1) % 2; }
    void* barrier_order(unsigned generation) { return order.data() + 3 + generation % 2; }
    void* meeting_order(const Warp& warp, const Rendezvous& meeting, unsigned generation) {
        const size_t number =
            static_cast<size_t>(&warp - warps.data()) * 32 + static_cast<size_t>(&meeting - warp.meetings.get());
        return order.data() + 5 + number * 2 + generation % 2;
    }
    static size_t order_count(size_t warp_count) { return 5 + warp_count * 64; }
};

struct Fiber : Thread {
    enum class State : uint8_t { kReady, kAtBarrier, kAtMeeting, kAtCluster, kAtMbarrier, kFinished };

    Strand strand;
    Stack stack;
    Block* block = nullptr;
    Warp* group = nullptr;
    State state = State::kFinished;
    std::source_location place;  // where it waits
    Rendezvous* held = nullptr;
    AsyncCopies copies;

    // Between barrier.cluster.arrive and .wait, and the barrier's generation then.
    bool owes_cluster_wait = false;
    unsigned cluster_generation = 0;
    const MBarrier* awaited = nullptr;
    unsigned awaited_parity = 0;

    // Of atomics, for fences: whether there has been one, and the addresses used since the last.
    bool fenced = false;
    unsigned atomics = 0;
    void* atomic_addresses[4] = {};
    unsigned spins = 0;

    uint32_t bit() const { return 1u << lane; }
};

}  // namespace moek::emulation
