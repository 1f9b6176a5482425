#include "emulation/execution/rendezvous.hpp"

#include "emulation/execution/report.hpp"
#include "emulation/execution/sanitizers.hpp"
#include "emulation/execution/scheduler.hpp"
#include "emulation/execution/statistics.hpp"

namespace moek::emulation {
namespace {

// The meeting of the lanes in `mask`: the one they use already, or a free one.
Rendezvous& meeting_of(Warp& warp, uint32_t mask) {
    Rendezvous* unused = nullptr;
    for (size_t i = 0; i < 32; ++i) {
        Rendezvous& meeting = warp.meetings[i];
        if (meeting.holders == 0) {
            if (unused == nullptr || meeting.mask == mask) unused = &meeting;
        } else if (meeting.mask == mask) {
            return meeting;
        }
        // Most kernels use one mask, which lives in the first place.
        if (i == 0 && unused != nullptr && meeting.mask == mask) break;
    }
    unused->mask = mask;
    return *unused;
}

void deposit(Slot& slot, const void* value, unsigned bytes) {
    // Words of fixed size: a call of memcpy would be seen by ThreadSanitizer.
    const uint32_t* from = static_cast<const uint32_t*>(value);
    uint32_t* to = reinterpret_cast<uint32_t*>(slot.bytes);
    for (unsigned i = 0; i < bytes / 4; ++i) __builtin_memcpy(to + i, from + i, 4);
}

struct Meeting {
    Rendezvous* place;
    unsigned generation;
};

Meeting meet(uint32_t mask, WarpOperation operation, const void* value, unsigned bytes, std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    scheduler.maybe_preempt();
    Fiber& fiber = scheduler.current();
    Warp& warp = *fiber.group;
    ++statistics().collectives;
    if ((mask & fiber.bit()) == 0) {
        scheduler.fail(cudaErrorLaunchFailure, where, [&] {
            return std::string(name_of(operation)) + " with a mask that leaves out the calling lane";
        });
    }
    if ((mask & ~warp.existing) != 0) {
        scheduler.fail(cudaErrorLaunchFailure, where, [&] {
            return std::string(name_of(operation)) + " with a mask that names lanes this warp does not have";
        });
    }
    scheduler.leave_meeting(fiber);
    Rendezvous& meeting = meeting_of(warp, mask);
    if (meeting.arrived == 0) {
        meeting.operation = operation;
    } else if (meeting.operation != operation) {
        scheduler.fail(cudaErrorLaunchFailure, where, [&] {
            return std::string("the warp diverges: other lanes wait in ") + name_of(meeting.operation) +
                   ", this one comes to " + name_of(operation) + " with the same mask";
        });
    }
    ++meeting.holders;
    fiber.held = &meeting;
    const unsigned generation = meeting.generation;
    deposit(meeting.slots[generation % 2][fiber.lane], value, bytes);
    if (operation == WarpOperation::kSyncWarp) order_release(fiber.block->meeting_order(warp, meeting, generation));
    meeting.arrived |= fiber.bit();
    if (meeting.arrived == mask) {
        meeting.arrived = 0;
        ++meeting.generation;
        warp.ready |= mask & ~fiber.bit();
        scheduler.note_progress();
        if (scheduler.coin()) scheduler.step_back();
    } else {
        fiber.state = Fiber::State::kAtMeeting;
        fiber.place = where;
        scheduler.wait();
    }
    return {&meeting, generation};
}

}  // namespace

void Scheduler::leave_meeting(Fiber& fiber) {
    if (fiber.held == nullptr) return;
    --fiber.held->holders;
    fiber.held = nullptr;
}

const Slot* exchange(uint32_t mask, WarpOperation operation, const void* value, unsigned bytes,
                     std::source_location where) {
    const Meeting meeting = meet(mask, operation, value, bytes, where);
    return meeting.place->slots[meeting.generation % 2];
}

void sync_warp(uint32_t mask, std::source_location where) {
    const Meeting meeting = meet(mask, WarpOperation::kSyncWarp, nullptr, 0, where);
    const Fiber& fiber = Scheduler::instance().current();
    order_acquire(fiber.block->meeting_order(*fiber.group, *meeting.place, meeting.generation));
}

}  // namespace moek::emulation
