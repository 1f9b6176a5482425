// A small thread pool owned by a context.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "moekernels.h"

namespace moek::cpu {

// Runs loops over blocks. Blocks are claimed one by one, so which thread runs a block is open; what a block computes
// must not depend on it. How work is cut into blocks must depend on shapes only, never on the number of threads: then
// results are the same, bit for bit, whatever that number is.
//
// Threads start with the first loop that needs them and sleep when there is nothing to do. One loop runs on the
// workers at a time: a loop started meanwhile, by another caller or from inside a block, runs on its caller's thread
// alone. So nothing ever waits for a thread that waits in turn. With `parallel` there are no own threads at all: it
// lends those of another library, see moek_parallel_callback.
class ThreadPool {
  public:
    // `thread_count` >= 1 counts the calling thread.
    explicit ThreadPool(int32_t thread_count, moek_parallel_callback parallel = nullptr)
        : thread_count_(thread_count), parallel_(parallel) {}
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int32_t thread_count() const noexcept { return thread_count_; }

    // Calls body(block) for every block of 0 .. blocks - 1 and returns when all are done. An exception of a block ends
    // the loop early and is rethrown; with several, one of them.
    template <class Body>
    void parallel_for(int64_t blocks, Body&& body) {
        using Callable = std::remove_reference_t<Body>;
        run(
            blocks, [](void* context, int64_t block) { (*static_cast<Callable*>(context))(block); },
            const_cast<void*>(static_cast<const void*>(&body)));
    }

    // The same, on the calling thread alone when the whole loop is less work than waking a thread up. `work` is the
    // number of simple operations in all blocks together.
    template <class Body>
    void parallel_for(int64_t blocks, double work, Body&& body) {
        if (work < kLeastParallelWork) {
            for (int64_t block = 0; block < blocks; ++block) body(block);
        } else {
            parallel_for(blocks, std::forward<Body>(body));
        }
    }

  private:
    using BlockFunction = void (*)(void* context, int64_t block);

    // About 20 microseconds of simple operations, a few times what it takes to wake a sleeping thread.
    static constexpr double kLeastParallelWork = 40'000;

    struct Job {
        BlockFunction function;
        void* context;
        int64_t blocks;
        std::atomic<int64_t> next{0};
        std::atomic<bool> failed{false};
        std::exception_ptr error{};  // written by whoever sets `failed`
        int32_t workers = 0;         // inside the job now; guarded by mutex_
    };

    void run(int64_t blocks, BlockFunction function, void* context);
    void work_with_lent_threads(Job& job);
    void work_with_own_threads(Job& job);
    static void work_on(Job& job);
    void start_workers();
    void worker();

    const int32_t thread_count_;
    const moek_parallel_callback parallel_;  // null: own threads
    std::atomic<bool> busy_{false};          // a loop owns the workers
    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable done_;
    Job* job_ = nullptr;                // guarded by mutex_
    uint64_t generation_ = 0;           // guarded by mutex_; counts jobs, so that a worker takes each at most once
    bool stopping_ = false;             // guarded by mutex_
    std::vector<std::thread> workers_;  // owned by whoever holds busy_
};

}  // namespace moek::cpu
