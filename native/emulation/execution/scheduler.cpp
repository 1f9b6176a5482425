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

// ThreadSanitizer tells threads apart by an identity of which it has room for some 8000; making one is slow, and a barrier
// takes time in proportion to all of them. Blocks get different ones until so many are in use; then blocks that share one are
// ordered one after the other, and a race between those two goes unseen. Enough for eight blocks of 128 threads side by side.
constexpr size_t kMostIdentities = 1024;

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
    for (const auto& block : blocks_) {
        if (block->copier != nullptr) __tsan_destroy_fiber(block->copier);
    }
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
    failure_ = {};
#if defined(MOEK_EMULATION_TSAN)
    launcher_.identity = __tsan_get_current_fiber();
#endif

    // Whole clusters run at the same time.
    options_.resident = (options_.resident + shape.cluster - 1) / shape.cluster * shape.cluster;
    const std::vector<size_t> order = block_order();
    const size_t count = order.size();
    tensor_copies_.clear();

    running_ = true;
    for (size_t first = 0; first < count && outcome_.error == cudaSuccess; first += options_.resident) {
        prepare(order, first, std::min<size_t>(options_.resident, count - first));
        Fiber* fiber = next_ready();
        detail::current_thread = fiber;
        switch_strand(launcher_, fiber->strand, false);
        detail::current_thread = nullptr;
        report_failure();
        for (const auto& block : blocks_) {
            outcome_.static_bytes = std::max(outcome_.static_bytes, block->shared.static_bytes());
        }
    }
    running_ = false;

    if (outcome_.error != cudaSuccess) end_unfinished();
    end_copiers();
    order_acquire(&end_order_);
    return std::move(outcome_);
}

// ---------------------------------------------------------------------------------------------------------------------
// Blocks on their way in
// ---------------------------------------------------------------------------------------------------------------------

// The numbers of the grid's blocks in the order in which they come; the blocks of a cluster come one after the other.
std::vector<size_t> Scheduler::block_order() {
    const dim3& grid = shape_.grid;
    const size_t across = grid.x / shape_.cluster;
    std::vector<size_t> clusters(across * grid.y * grid.z);
    std::iota(clusters.begin(), clusters.end(), size_t{0});
    if (options_.seed != 0) {
        for (size_t i = clusters.size(); i > 1; --i) {
            std::swap(clusters[i - 1], clusters[random_.below(static_cast<uint32_t>(i))]);
        }
    }
    std::vector<size_t> order;
    order.reserve(clusters.size() * shape_.cluster);
    for (const size_t cluster : clusters) {
        for (size_t i = 0; i < shape_.cluster; ++i) {
            order.push_back(cluster / across * grid.x + cluster % across * shape_.cluster + i);
        }
    }
    return order;
}

void Scheduler::prepare(const std::vector<size_t>& order, size_t first, size_t count) {
    const unsigned threads = threads_of(shape_.block);
    // A slot is a block's state and its fibers.
    const size_t slots = std::max<size_t>(options_.resident, kThreadSanitizer ? kMostIdentities / threads : 0);
    warps_.clear();
    turn_ = 0;
    idle_yields_ = 0;
    for (size_t i = first; i < first + count; ++i) {
        const size_t slot = i % slots;
        while (blocks_.size() <= slot) blocks_.push_back(std::make_unique<Block>());
        Block& block = *blocks_[slot];
        prepare_block(block, order[i]);
        const size_t number = (i - first) / shape_.cluster;
        while (clusters_.size() <= number) clusters_.push_back(std::make_unique<Cluster>());
        Cluster& cluster = *clusters_[number];
        block.cluster = &cluster;
        block.rank = static_cast<unsigned>((i - first) % shape_.cluster);
        if (block.rank == 0) {
            cluster.blocks.clear();
            cluster.live = cluster.arrived = 0;
        }
        cluster.blocks.push_back(&block);
        cluster.live += threads;
        while (fibers_.size() < (slot + 1) * threads) fibers_.push_back(make_fiber());
        for (unsigned t = 0; t < threads; ++t) prepare_fiber(*fibers_[slot * threads + t], block, t);
        for (Warp& warp : block.warps) warps_.push_back(&warp);
    }
}

std::unique_ptr<Fiber> Scheduler::make_fiber() {
    auto fiber = std::make_unique<Fiber>();
    fiber->strand.stack = fiber->stack.data();
    fiber->strand.stack_bytes = Stack::kBytes;
#if defined(MOEK_EMULATION_TSAN)
    fiber->strand.identity = __tsan_create_fiber(0);
#endif
    return fiber;
}

// What the threads of a failed kernel did happened before the launch returns, as if they had finished.
void Scheduler::end_unfinished() {
#if defined(MOEK_EMULATION_TSAN)
    constexpr unsigned kOrdersNothing = 1;
    for (const auto& fiber : fibers_) {
        if (fiber->state == Fiber::State::kFinished) continue;
        __tsan_switch_to_fiber(fiber->strand.identity, kOrdersNothing);
        order_release(fiber->block->end_order());
        order_release(&end_order_);
        fiber->state = Fiber::State::kFinished;
        __tsan_switch_to_fiber(launcher_.identity, kOrdersNothing);
    }
#endif
}

// What tensor copies read and wrote happened before the launch returns, also when nobody has waited for them.
void Scheduler::end_copiers() {
#if defined(MOEK_EMULATION_TSAN)
    constexpr unsigned kOrdersNothing = 1;
    for (const auto& block : blocks_) {
        if (block->copier == nullptr) continue;
        __tsan_switch_to_fiber(block->copier, kOrdersNothing);
        order_release(block->end_order());
        order_release(&end_order_);
        __tsan_switch_to_fiber(launcher_.identity, kOrdersNothing);
    }
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
    block.mbarriers.clear();
#if defined(MOEK_EMULATION_TSAN)
    if (block.copier == nullptr) block.copier = __tsan_create_fiber(0);
#endif
    block.warps.resize((block.live + 31) / 32);
    for (Warp& warp : block.warps) {
        warp.block = &block;
        warp.existing = warp.ready = warp.at_barrier = warp.at_cluster = warp.at_mbarrier = 0;
        for (size_t i = 0; i < 32; ++i) {
            warp.meetings[i].arrived = 0;
            warp.meetings[i].holders = 0;
        }
    }
    ++block.round;
    block.order.resize(Block::order_count(block.warps.size()));
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
    fiber.owes_cluster_wait = false;
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
    order_acquire(block.former_end_order());
    body_(argument_);
    if (fiber.copies.outstanding() != 0) {
        fail(cudaErrorLaunchFailure, {}, [&] {
            return "the thread ends with " + std::to_string(fiber.copies.outstanding()) +
                   " cp.async copies that nobody waited for";
        });
    }
    if (fiber.owes_cluster_wait) {
        fail(cudaErrorLaunchFailure, {},
             [] { return "the thread ends between barrier.cluster.arrive and barrier.cluster.wait"; });
    }
    if (block.live == 1) end_block(block);
    order_release(block.end_order());
    order_release(&end_order_);
    leave_meeting(fiber);
    fiber.state = Fiber::State::kFinished;
    idle_yields_ = 0;
    --block.live;
    if (block.live != 0 && block.at_barrier == block.live) release_barrier(block);
    Cluster& cluster = *block.cluster;
    --cluster.live;
    if (cluster.live != 0 && cluster.arrived == cluster.live) release_cluster(cluster);
    leave(fiber, true);
    std::abort();  // a finished fiber is never entered again
}

// Before its last thread ends: is anything on its way into the block's memory?
void Scheduler::end_block(Block& block) {
    for (unsigned i = 0; i < tensor_copies_.count(); ++i) {
        if (tensor_copies_.at(i).block != &block) continue;
        fail(cudaErrorLaunchFailure, {},
             [] { return "the block ends while a tensor copy into its shared memory is under way"; });
    }
    for (const MBarrier& barrier : block.mbarriers) {
        if (barrier.bytes == 0) continue;
        fail(cudaErrorLaunchFailure, {}, [&] {
            return barrier.bytes > 0 ? "the block ends with " + std::to_string(barrier.bytes) +
                                           " bytes announced at an mbarrier that never came"
                                     : "the block ends with " + std::to_string(-barrier.bytes) +
                                           " bytes come at an mbarrier that were never announced";
        });
    }
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
    if (++idle_yields_ > kMostIdleYields) {
        fail(cudaErrorLaunchTimeout, {}, [] { return "threads wait for memory that nobody changes"; });
    }
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
    if (options_.seed != 0 && !tensor_copies_.empty() && random_.below(16) == 0) {
        make_tensor_copy(random_.below(tensor_copies_.count()));
    }
    while (warps_[turn_]->ready == 0) {
        // In order: the next warp that can run. At random: the next one from anywhere.
        const size_t start = options_.seed == 0 ? turn_ + 1 : random_.below(static_cast<uint32_t>(count));
        size_t steps = 0;
        while (steps < count && warps_[(start + steps) % count]->ready == 0) ++steps;
        if (steps < count) {
            turn_ = (start + steps) % count;
        } else if (!tensor_copies_.empty()) {
            // Everybody waits: at the latest now a copy comes.
            make_tensor_copy(options_.seed == 0 ? 0 : random_.below(tensor_copies_.count()));
        } else {
            return nullptr;
        }
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

void Scheduler::stop() {
    detail::current_thread = nullptr;
    switch_strand(failure_.fiber->strand, launcher_, false);
    std::abort();  // a kernel that failed does not go on
}

// After the last thread that could run: did one fail, or do some wait forever?
void Scheduler::report_failure() {
    if (failure_.error != cudaSuccess) {
        outcome_.error = failure_.error;
        outcome_.text =
            place_of(*failure_.fiber) + ": " + failure_.describe(failure_.callable) + source_text(failure_.where);
        return;
    }
    outcome_.text = deadlock_text(warps_);
    if (!outcome_.text.empty()) outcome_.error = cudaErrorLaunchFailure;
}

void fail(const char* what, std::source_location where) {
    Scheduler::instance().fail(cudaErrorLaunchFailure, where, [&] { return what; });
}

}  // namespace moek::emulation
