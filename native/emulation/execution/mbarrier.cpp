#include "emulation/execution/mbarrier.hpp"

#include <string>

#include "emulation/execution/report.hpp"
#include "emulation/execution/sanitizers.hpp"
#include "emulation/execution/scheduler.hpp"
#include "emulation/execution/statistics.hpp"
#include "emulation/shared_memory.hpp"

namespace moek::emulation {
namespace {

// The hardware's fields are as wide.
constexpr int kMostCounted = (1 << 20) - 1;
constexpr unsigned char kMark[8] = {0x6D, 0x62, 0x61, 0x72, 0x72, 0x69, 0x65, 0x72};

bool is_marked(const MBarrier& barrier) {
    bool marked = true;
    for (unsigned i = 0; i < sizeof(kMark); ++i) marked = marked && barrier.place[i] == kMark[i];
    return marked;
}

void arrive(Scheduler& scheduler, Block& block, MBarrier& barrier, std::source_location where) {
    if (barrier.missing == 0) {
        scheduler.fail(cudaErrorLaunchFailure, where, [&] {
            return "mbarrier.arrive: more than the " + std::to_string(barrier.expected) + " arrivals of a phase";
        });
    }
    order_release(barrier.phase_order());
    --barrier.missing;
    scheduler.settle(block, barrier);
}

}  // namespace

void Scheduler::settle(Block& block, MBarrier& barrier) {
    if (barrier.missing != 0 || barrier.bytes != 0) return;
    barrier.missing = barrier.expected;
    ++barrier.phase;
    note_progress();
    for (Warp& warp : block.warps) {
        for (unsigned lane = 0; lane < 32; ++lane) {
            if ((warp.at_mbarrier >> lane & 1u) == 0 || warp.lanes[lane]->awaited != &barrier) continue;
            warp.at_mbarrier &= ~(1u << lane);
            warp.ready |= 1u << lane;
        }
    }
}

void Scheduler::count_bytes(MBarrier& barrier, int bytes, std::source_location where) {
    barrier.bytes += bytes;
    if (barrier.bytes > kMostCounted || barrier.bytes < -kMostCounted) {
        fail(cudaErrorLaunchFailure, where, [&] {
            return "mbarrier: " + std::to_string(barrier.bytes) + " bytes under way, it counts up to " +
                   std::to_string(kMostCounted);
        });
    }
}

MBarrier& usable_mbarrier(Block& block, void* address, const char* operation, std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    MBarrier* const found = block.mbarriers.find(address);
    if (found == nullptr) {
        scheduler.fail(cudaErrorLaunchFailure, where,
                       [&] { return std::string(operation) + ": no mbarrier was initialised at the address"; });
    }
    if (!is_marked(*found)) {
        scheduler.fail(cudaErrorLaunchFailure, where,
                       [&] { return std::string(operation) + ": something was written over the mbarrier"; });
    }
    if (!found->fenced) {
        scheduler.fail(cudaErrorLaunchFailure, where, [&] {
            return std::string(operation) + ": the mbarrier was initialised without a fence.mbarrier_init after it";
        });
    }
    return *found;
}

void mbarrier_init(void* address, unsigned arrivals, std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    Block& block = *scheduler.current().block;
    check_shared(address, 8, 8, "mbarrier.init", where);
    if (arrivals == 0 || arrivals > static_cast<unsigned>(kMostCounted)) {
        scheduler.fail(cudaErrorLaunchFailure, where, [&] {
            return "mbarrier.init: a count of " + std::to_string(arrivals) + ", expected 1.." +
                   std::to_string(kMostCounted);
        });
    }
    if (block.mbarriers.find(address) != nullptr) {
        scheduler.fail(cudaErrorLaunchFailure, where, [] { return "mbarrier.init of an mbarrier that is in use"; });
    }
    MBarrier* const barrier = block.mbarriers.add(static_cast<unsigned char*>(address));
    if (barrier == nullptr) {
        scheduler.fail(cudaErrorLaunchFailure, where, [] {
            return "mbarrier.init: more than " + std::to_string(MBarriers::kCapacity) + " mbarriers of one block";
        });
    }
    barrier->expected = barrier->missing = arrivals;
    barrier->bytes = 0;
    barrier->phase = 0;
    barrier->fenced = false;
    for (unsigned i = 0; i < sizeof(kMark); ++i) barrier->place[i] = kMark[i];
}

void mbarrier_fence_init() {
    for (MBarrier& barrier : Scheduler::instance().current().block->mbarriers) barrier.fenced = true;
}

void mbarrier_arrive_expect(void* address, unsigned bytes, std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    scheduler.maybe_preempt();
    Block& block = *scheduler.current().block;
    MBarrier& barrier = usable_mbarrier(block, address, "mbarrier.arrive.expect_tx", where);
    scheduler.count_bytes(barrier, static_cast<int>(bytes), where);
    arrive(scheduler, block, barrier, where);
}

void mbarrier_arrive_at(void* address, unsigned rank, std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    scheduler.maybe_preempt();
    void* const remote = cluster_address(address, rank, "mbarrier.arrive", where);
    Block& block = *scheduler.current().block->cluster->blocks[rank];
    arrive(scheduler, block, usable_mbarrier(block, remote, "mbarrier.arrive", where), where);
}

void mbarrier_wait(void* address, unsigned parity, std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    scheduler.maybe_preempt();
    Fiber& fiber = scheduler.current();
    ++statistics().collectives;
    scheduler.leave_meeting(fiber);
    if (parity > 1) {
        scheduler.fail(cudaErrorLaunchFailure, where, [&] {
            return "mbarrier.try_wait: a parity of " + std::to_string(parity) + ", expected 0 or 1";
        });
    }
    MBarrier& barrier = usable_mbarrier(*fiber.block, address, "mbarrier.try_wait", where);
    if (barrier.phase % 2 == parity) {
        fiber.awaited = &barrier;
        fiber.awaited_parity = parity;
        fiber.group->at_mbarrier |= fiber.bit();
        fiber.state = Fiber::State::kAtMbarrier;
        fiber.place = where;
        scheduler.wait();
        if (barrier.phase % 2 == parity) {
            scheduler.fail(cudaErrorLaunchFailure, where, [] {
                return "mbarrier.try_wait: another phase has completed before this thread saw that of its own";
            });
        }
    }
    order_acquire(&barrier.order[parity]);
}

}  // namespace moek::emulation
