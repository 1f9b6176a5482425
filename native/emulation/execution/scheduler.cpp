#include "emulation/execution/scheduler.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <numeric>
#include <utility>

#include "emulation/execution/report.hpp"
#include "emulation/execution/sanitizers.hpp"
#include "emulation/execution/statistics.hpp"

namespace moek::emulation {

namespace detail {
constinit thread_local Thread* current_thread = nullptr;
}  // namespace detail

namespace {

// ThreadSanitizer has room for some 8000 threads, and making one is slow: from here on they serve again, and a race
// between two blocks that get the same one goes unseen.
constexpr size_t kMostIdentities = 4096;

// Threads that only spin are given up on after this many turns.
constexpr uint64_t kMostIdleYields = 20'000'000;

unsigned threads_of(const dim3& block) {
    return block.x * block.y * block.z;
}

}  // namespace

Statistics& statistics() {
    static thread_local Statistics result = {};
    return result;
}

Scheduler& Scheduler::instance() {
    static thread_local Scheduler scheduler;
    return scheduler;
}

Scheduler::~Scheduler() {
#if defined(MOEK_EMULATION_TSAN)
    for (const auto& fiber : fibers_) __tsan_destroy_fiber(fiber->strand.identity);
#endif
}

Outcome Scheduler::run(const KernelShape& shape, void (*body)(void*), void* argument) {
    options_ = options_from_environment();
    // Three kinds of random schedule, because each finds what the others miss: staying with a warp as long as it can
    // run, changing now and then, changing all the time.
    constexpr unsigned kHops[] = {0, 20, 3000};
    hop_ = options_.seed == 0 ? 0 : kHops[(options_.seed + launches_) % 3];
    random_.seed(options_.seed + 1'000'003 * launches_);
    ++launches_;
    ++statistics().launches;

    shape_ = shape;
    body_ = body;
    argument_ = argument;
    outcome_ = {};
    identities_ = 0;
#if defined(MOEK_EMULATION_TSAN)
    launcher_.identity = __tsan_get_current_fiber();
#endif

    const size_t count = static_cast<size_t>(shape.grid.x) * shape.grid.y * shape.grid.z;
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), size_t{0});
    if (options_.seed != 0) {
        for (size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random_.below(static_cast<uint32_t>(i))]);
    }

    running_ = true;
    for (size_t first = 0; first < count && outcome_.error == cudaSuccess; first += options_.resident) {
        prepare(order, first, std::min<size_t>(options_.resident, count - first));
        Fiber* fiber = next_ready();
        detail::current_thread = fiber;
        switch_strand(launcher_, fiber->strand, false);
        detail::current_thread = nullptr;
        report_deadlock();
        for (const auto& block : blocks_) {
            outcome_.static_bytes = std::max(outcome_.static_bytes, block->shared.static_bytes());
        }
    }
    running_ = false;

    order_acquire(&end_order_);
    if (outcome_.error == cudaSuccess) {
        old_blocks_.clear();
        old_fibers_.clear();
    }
    return std::move(outcome_);
}

// ---------------------------------------------------------------------------------------------------------------------
// Blocks on their way in
// ---------------------------------------------------------------------------------------------------------------------

void Scheduler::prepare(const std::vector<size_t>& order, size_t first, size_t count) {
    const unsigned threads = threads_of(shape_.block);
    if (kThreadSanitizer && identities_ < kMostIdentities) {
        for (auto& block : blocks_) old_blocks_.push_back(std::move(block));
        blocks_.clear();
    }
    while (blocks_.size() < count) blocks_.push_back(std::make_unique<Block>());
    renew_identities();
    while (fibers_.size() < threads * count) {
        auto fiber = std::make_unique<Fiber>();
        fiber->strand.stack = fiber->stack.data();
        fiber->strand.stack_bytes = Stack::kBytes;
#if defined(MOEK_EMULATION_TSAN)
        fiber->strand.identity = __tsan_create_fiber(0);
        ++identities_;
#endif
        fibers_.push_back(std::move(fiber));
    }

    warps_.clear();
    turn_ = 0;
    idle_yields_ = 0;
    for (size_t i = 0; i < count; ++i) {
        Block& block = *blocks_[i];
        prepare_block(block, order[first + i]);
        // Shifted from block to block, so that a thread's identity is not that of the same thread of another block.
        for (unsigned t = 0; t < threads; ++t) {
            prepare_fiber(*fibers_[i * threads + (t + 37 * (first + i)) % threads], block, t);
        }
        for (Warp& warp : block.warps) warps_.push_back(&warp);
    }
}

void Scheduler::renew_identities() {
#if defined(MOEK_EMULATION_TSAN)
    if (identities_ >= kMostIdentities) return;
    for (auto& fiber : fibers_) {
        __tsan_destroy_fiber(fiber->strand.identity);
        old_fibers_.push_back(std::move(fiber));
    }
    fibers_.clear();
#endif
}

void Scheduler::prepare_block(Block& block, size_t number) {
    const dim3& grid = shape_.grid;
    block.index = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                   static_cast<unsigned>(number / grid.x / grid.y)};
    block.live = threads_of(shape_.block);
    block.at_barrier = 0;
    block.barrier_count = 0;
    block.shared.begin(shape_.dynamic_bytes);
    block.warps.resize((block.live + 31) / 32);
    for (Warp& warp : block.warps) {
        warp.block = &block;
        warp.existing = warp.ready = warp.at_barrier = 0;
        for (size_t i = 0; i < 32; ++i) {
            warp.meetings[i].arrived = 0;
            warp.meetings[i].holders = 0;
        }
    }
    block.order.resize(3 + block.warps.size() * 64);
    order_release(block.start_order());
    ++statistics().blocks;
}

void Scheduler::prepare_fiber(Fiber& fiber, Block& block, unsigned thread) {
    const dim3& size = shape_.block;
    fiber.thread_index = {thread % size.x, thread / size.x % size.y, thread / size.x / size.y};
    fiber.block_index = block.index;
    fiber.block_size = size;
    fiber.grid_size = shape_.grid;
    fiber.lane = thread % 32;
    fiber.warp = thread / 32;
    fiber.block = &block;
    fiber.group = &block.warps[fiber.warp];
    fiber.state = Fiber::State::kReady;
    fiber.held = nullptr;
    fiber.copies.clear();
    fiber.fenced = false;
    fiber.atomics = 0;
    fiber.spins = 0;
    fiber.group->lanes[fiber.lane] = &fiber;
    fiber.group->existing |= fiber.bit();
    fiber.group->ready |= fiber.bit();
    unpoison(fiber.stack.data(), Stack::kBytes);
    prepare_context(fiber.strand.context, fiber.stack.data(), Stack::kBytes, &Scheduler::enter_fiber);
}

// ---------------------------------------------------------------------------------------------------------------------
// On a fiber
// ---------------------------------------------------------------------------------------------------------------------

void Scheduler::enter_fiber() {
    strand_entered();
    instance().run_fiber();
}

void Scheduler::run_fiber() {
    Fiber& fiber = current();
    Block& block = *fiber.block;
    order_acquire(block.start_order());
    body_(argument_);
    if (fiber.copies.outstanding() != 0) {
        fail(cudaErrorLaunchFailure,
             "the thread ends with " + std::to_string(fiber.copies.outstanding()) +
                 " cp.async copies that nobody waited for",
             {});
    }
    order_release(&end_order_);
    leave_meeting(fiber);
    fiber.state = Fiber::State::kFinished;
    idle_yields_ = 0;
    --block.live;
    if (block.live != 0 && block.at_barrier == block.live) release_barrier(block);
    leave(fiber, true);
    std::abort();  // a finished fiber is never entered again
}

void Scheduler::wait() {
    leave(current(), false);
}

void Scheduler::step_back() {
    Fiber& fiber = current();
    fiber.group->ready |= fiber.bit();
    leave(fiber, false);
}

void Scheduler::yield() {
    if (++idle_yields_ > kMostIdleYields)
        fail(cudaErrorLaunchTimeout, "threads wait for memory that nobody changes", {});
    step_back();
}

void Scheduler::maybe_preempt() {
    if (options_.preempt != 0 && random_.below(100) < options_.preempt) step_back();
}

void Scheduler::leave(Fiber& fiber, bool ends) {
    Fiber* next = next_ready();
    if (next == &fiber) return;
    ++statistics().switches;
    detail::current_thread = next;
    switch_strand(fiber.strand, next == nullptr ? launcher_ : next->strand, ends);
}

Fiber* Scheduler::next_ready() {
    const size_t count = warps_.size();
    if (hop_ != 0 && random_.below(10000) < hop_) turn_ = random_.below(static_cast<uint32_t>(count));
    if (warps_[turn_]->ready == 0) {
        // In order: the next warp that can run. At random: the next one from anywhere.
        const size_t start = options_.seed == 0 ? turn_ + 1 : random_.below(static_cast<uint32_t>(count));
        size_t steps = 0;
        while (steps < count && warps_[(start + steps) % count]->ready == 0) ++steps;
        if (steps == count) return nullptr;
        turn_ = (start + steps) % count;
    }
    Warp& warp = *warps_[turn_];
    int lane = std::countr_zero(warp.ready);
    if (options_.seed != 0) {
        const int first = static_cast<int>(random_.next() % 32);
        lane = (first + std::countr_zero(std::rotr(warp.ready, first))) % 32;
    }
    Fiber* fiber = warp.lanes[lane];
    warp.ready &= ~fiber->bit();
    fiber->state = Fiber::State::kReady;
    return fiber;
}

void Scheduler::fail(cudaError_t error, std::string what, std::source_location where) {
    Fiber& fiber = current();
    outcome_.error = error;
    outcome_.text = place_of(fiber) + ": " + what + source_text(where);
    std::string().swap(what);  // nothing on this stack is ever destroyed
    // The other fibers stay where they are; their stacks are set up anew at the next launch.
    detail::current_thread = nullptr;
    switch_strand(fiber.strand, launcher_, true);
    std::abort();
}

void Scheduler::report_deadlock() {
    if (outcome_.error != cudaSuccess) return;
    const std::string text = deadlock_text(warps_);
    if (text.empty()) return;
    outcome_.error = cudaErrorLaunchFailure;
    outcome_.text = text;
}

void fail(const char* what, std::source_location where) {
    Scheduler::instance().fail(cudaErrorLaunchFailure, what, where);
}

}  // namespace moek::emulation
