// Runs the threads of a kernel, one at a time, each on a stack of its own.
//
// A thread runs until it has to wait; then the next one that is ready goes on, directly from stack to stack. When none is,
// control returns to the launching thread: either all have finished, or they wait for each other forever.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "emulation/execution/block.hpp"
#include "emulation/execution/options.hpp"
#include "emulation/execution/random.hpp"
#include "emulation/execution/tensor_copies.hpp"
#include "emulation/runtime/types.hpp"

namespace moek::emulation {

struct KernelShape {
    dim3 grid;
    dim3 block;
    size_t dynamic_bytes;
    size_t static_limit;   // what is left for shared arrays that the kernel declares
    unsigned cluster = 1;  // neighbouring blocks along x
};

struct Outcome {
    cudaError_t error = cudaSuccess;
    std::string text;
    size_t static_bytes = 0;  // the most shared memory that a block declared
};

class Scheduler {
  public:
    // The one of this thread of the operating system.
    static Scheduler& instance();

    ~Scheduler();

    // Runs `body(argument)` once in every thread of the grid.
    Outcome run(const KernelShape& shape, void (*body)(void*), void* argument);

    bool running() const { return running_; }
    Fiber& current() { return *static_cast<Fiber*>(detail::current_thread); }
    const KernelShape& shape() const { return shape_; }

    // The current thread has set what it waits for: others run until something makes it ready again.
    void wait();
    // Others may run; the current thread stays ready.
    void step_back();
    // The same for a thread that cannot go on unless another one changes memory.
    void yield();
    // Steps back now and then, as the options ask for.
    void maybe_preempt();
    // Threads got somewhere: they do not only spin.
    void note_progress() { idle_yields_ = 0; }
    // True or false at random; false when everything runs in order.
    bool coin() { return options_.seed != 0 && (random_.next() & 1u) != 0; }
    // Ends the kernel. `describe()` returns what happened; the launching thread calls it, because the current one never
    // comes back to free a string, and ThreadSanitizer would wonder who writes it.
    template <class Describe>
    [[noreturn]] void fail(cudaError_t error, std::source_location where, const Describe& describe) {
        failure_ = {error, where, &current(), &describe,
                    [](const void* callable) { return std::string((*static_cast<const Describe*>(callable))()); }};
        stop();
    }

    void release_barrier(Block& block);
    void leave_meeting(Fiber& fiber);
    void release_cluster(Cluster& cluster);

    // Counts bytes that were announced (or, negative, that came) at a barrier.
    void count_bytes(MBarrier& barrier, int bytes, std::source_location where);
    // Completes the barrier's phase if nothing is missing.
    void settle(Block& block, MBarrier& barrier);
    void start_tensor_copy(const PendingTensorCopy& copy);

  private:
    struct Failure {
        cudaError_t error = cudaSuccess;
        std::source_location where;
        Fiber* fiber = nullptr;
        const void* callable = nullptr;
        std::string (*describe)(const void*) = nullptr;
    };

    Scheduler() = default;

    static void enter_fiber();
    [[noreturn]] void run_fiber();
    void prepare(const std::vector<size_t>& order, size_t first, size_t count);
    std::vector<size_t> block_order();
    void prepare_block(Block& block, size_t number);
    void prepare_fiber(Fiber& fiber, Block& block, unsigned thread);
    std::unique_ptr<Fiber> make_fiber();
    void end_unfinished();
    void end_copiers();
    void end_block(Block& block);
    void make_tensor_copy(unsigned i);
    Fiber* next_ready();
    void leave(Fiber& fiber, bool ends);
    [[noreturn]] void stop();
    void report_failure();

    Options options_ = {};
    ScheduleRandom random_;
    uint64_t launches_ = 0;
    bool running_ = false;
    unsigned hop_ = 0;  // chance in 10000 to go on with another warp, though the current one could

    KernelShape shape_ = {};
    void (*body_)(void*) = nullptr;
    void* argument_ = nullptr;
    Failure failure_;
    Outcome outcome_;

    Strand launcher_;
    std::vector<std::unique_ptr<Block>> blocks_;
    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::vector<std::unique_ptr<Cluster>> clusters_;
    std::vector<Warp*> warps_;  // of the blocks that are running
    TensorCopies tensor_copies_;
    size_t turn_ = 0;           // the warp that ran last
    uint64_t idle_yields_ = 0;  // since a thread last got anywhere

    // What all threads of a launch release when they end, for ThreadSanitizer.
    uint64_t end_order_ = 0;
};

}  // namespace moek::emulation
