#include "cpu/common/thread_pool.hpp"

#include <algorithm>
#include <system_error>

namespace moek::cpu {

ThreadPool::~ThreadPool() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : workers_) thread.join();
}

void ThreadPool::run(int64_t blocks, BlockFunction function, void* context) {
    const bool worth_sharing = thread_count_ > 1 && blocks > 1;
    if (!worth_sharing || busy_.exchange(true, std::memory_order_acquire)) {
        for (int64_t block = 0; block < blocks; ++block) function(context, block);
        return;
    }
    Job job{function, context, blocks};
    if (parallel_ != nullptr) {
        work_with_lent_threads(job);
    } else {
        work_with_own_threads(job);
    }
    busy_.store(false, std::memory_order_release);
    if (job.error) std::rethrow_exception(job.error);
}

void ThreadPool::work_with_lent_threads(Job& job) {
    const int64_t threads = std::min<int64_t>(thread_count_, job.blocks);
    parallel_([](void* data) { work_on(*static_cast<Job*>(data)); }, &job, static_cast<uint32_t>(threads), 0);
    // Nothing is left to do unless the lender called nobody at all.
    work_on(job);
}

void ThreadPool::work_with_own_threads(Job& job) {
    start_workers();
    {
        const std::lock_guard lock(mutex_);
        job_ = &job;
        ++generation_;
    }
    // Waking more threads than there are other blocks is wasted.
    if (job.blocks - 1 >= static_cast<int64_t>(workers_.size())) {
        wake_.notify_all();
    } else {
        for (int64_t i = 0; i < job.blocks - 1; ++i) wake_.notify_one();
    }
    work_on(job);
    std::unique_lock lock(mutex_);
    job_ = nullptr;
    done_.wait(lock, [&] { return job.workers == 0; });
}

void ThreadPool::work_on(Job& job) {
    for (;;) {
        const int64_t block = job.next.fetch_add(1, std::memory_order_relaxed);
        if (block >= job.blocks || job.failed.load(std::memory_order_relaxed)) return;
        try {
            job.function(job.context, block);
        } catch (...) {
            if (!job.failed.exchange(true)) job.error = std::current_exception();
        }
    }
}

void ThreadPool::start_workers() {
    if (!workers_.empty()) return;
    try {
        const size_t wanted = static_cast<size_t>(thread_count_) - 1;
        workers_.reserve(wanted);
        while (workers_.size() < wanted) workers_.emplace_back([this] { worker(); });
    } catch (const std::system_error&) {
        // The system gives no more threads. The ones there are, at least the caller, do the work.
    } catch (const std::bad_alloc&) {
    }
}

void ThreadPool::worker() {
    uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [&] { return stopping_ || (job_ != nullptr && generation_ != seen); });
        if (stopping_) return;
        seen = generation_;
        Job& job = *job_;
        ++job.workers;
        lock.unlock();
        work_on(job);
        lock.lock();
        if (--job.workers == 0) done_.notify_one();
    }
}

}  // namespace moek::cpu
