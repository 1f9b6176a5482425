#include "emulation/execution/barrier.hpp"

#include "emulation/execution/report.hpp"
#include "emulation/execution/sanitizers.hpp"
#include "emulation/execution/scheduler.hpp"
#include "emulation/execution/statistics.hpp"

namespace moek::emulation {

void Scheduler::release_barrier(Block& block) {
    int& result = block.barrier_result[block.barrier_generation % 2];
    const unsigned count = block.barrier_count;
    switch (block.barrier_operation) {
        case BarrierOperation::kAnd:
            result = count == block.at_barrier;
            break;
        case BarrierOperation::kOr:
            result = count != 0;
            break;
        default:
            result = static_cast<int>(count);
            break;
    }
    block.at_barrier = 0;
    block.barrier_count = 0;
    ++block.barrier_generation;
    idle_yields_ = 0;
    for (Warp& warp : block.warps) {
        warp.ready |= warp.at_barrier;
        warp.at_barrier = 0;
    }
}

int wait_at_barrier(BarrierOperation operation, bool predicate, std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    scheduler.maybe_preempt();
    Fiber& fiber = scheduler.current();
    Block& block = *fiber.block;
    ++statistics().collectives;
    scheduler.leave_meeting(fiber);

    if (block.at_barrier == 0) {
        block.barrier_operation = operation;
        block.barrier_place = where;
    } else if (block.barrier_operation != operation || !same_place(block.barrier_place, where)) {
        scheduler.fail(cudaErrorLaunchFailure, where, [&] {
            return std::string("the block diverges: other threads wait in ") + name_of(block.barrier_operation) +
                   source_text(block.barrier_place) + ", this one comes to " + name_of(operation);
        });
    }

    const unsigned generation = block.barrier_generation;
    order_release(block.barrier_order(generation));
    if (predicate) ++block.barrier_count;
    fiber.group->at_barrier |= fiber.bit();
    fiber.state = Fiber::State::kAtBarrier;
    fiber.place = where;
    if (++block.at_barrier == block.live) scheduler.release_barrier(block);
    scheduler.wait();
    order_acquire(block.barrier_order(generation));
    return block.barrier_result[generation % 2];
}

}  // namespace moek::emulation
