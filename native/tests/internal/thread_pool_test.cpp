#include "cpu/common/thread_pool.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace moek::cpu {
namespace {

TEST(ThreadPool, RunsEveryBlockOnce) {
    for (int32_t threads : {1, 2, 3, 8}) {
        ThreadPool pool(threads);
        for (int64_t blocks : {0, 1, 2, 7, 8, 9, 1000}) {
            std::vector<std::atomic<int>> runs(static_cast<size_t>(blocks));
            pool.parallel_for(blocks, [&](int64_t block) { ++runs[static_cast<size_t>(block)]; });
            for (const auto& count : runs) ASSERT_EQ(count, 1) << threads << " threads, " << blocks << " blocks";
        }
    }
}

TEST(ThreadPool, SeveralThreadsTakePart) {
    ThreadPool pool(3);
    std::mutex mutex;
    std::vector<std::thread::id> seen;
    // Each block waits until the others have started: only three threads together can finish.
    std::atomic<int> started{0};
    pool.parallel_for(3, [&](int64_t) {
        {
            const std::lock_guard lock(mutex);
            seen.push_back(std::this_thread::get_id());
        }
        ++started;
        while (started < 3) std::this_thread::yield();
    });
    EXPECT_NE(seen[0], seen[1]);
    EXPECT_NE(seen[0], seen[2]);
    EXPECT_NE(seen[1], seen[2]);
}

// Lends the caller and what else was asked for, as GOMP_parallel does.
void lend(void (*body)(void*), void* data, uint32_t thread_count, uint32_t flags) {
    EXPECT_GE(thread_count, 2u);
    EXPECT_EQ(flags, 0u);
    std::vector<std::thread> others;
    for (uint32_t i = 1; i < thread_count; ++i) others.emplace_back(body, data);
    body(data);
    for (std::thread& thread : others) thread.join();
}

void lend_the_caller_alone(void (*body)(void*), void* data, uint32_t, uint32_t) {
    body(data);
}

void lend_nobody(void (*)(void*), void*, uint32_t, uint32_t) {}

TEST(ThreadPool, LentThreadsRunEveryBlockOnce) {
    for (const moek_parallel_callback parallel : {&lend, &lend_the_caller_alone, &lend_nobody}) {
        ThreadPool pool(3, parallel);
        for (int64_t blocks : {0, 1, 2, 3, 4, 100}) {
            std::vector<std::atomic<int>> runs(static_cast<size_t>(blocks));
            pool.parallel_for(blocks, [&](int64_t block) { ++runs[static_cast<size_t>(block)]; });
            for (const auto& count : runs) ASSERT_EQ(count, 1) << blocks << " blocks";
        }
    }
}

TEST(ThreadPool, LentThreadsHandOnExceptionsAndNest) {
    ThreadPool pool(3, &lend);
    EXPECT_THROW(pool.parallel_for(50,
                                   [](int64_t block) {
                                       if (block == 20) throw std::runtime_error("block");
                                   }),
                 std::runtime_error);
    std::atomic<int> count{0};
    pool.parallel_for(10, [&](int64_t) { pool.parallel_for(10, [&](int64_t) { ++count; }); });
    EXPECT_EQ(count, 100);
}

TEST(ThreadPool, LittleWorkStaysOnTheCaller) {
    ThreadPool pool(4);
    const auto caller = std::this_thread::get_id();
    pool.parallel_for(100, 1000.0, [&](int64_t) { EXPECT_EQ(std::this_thread::get_id(), caller); });
}

TEST(ThreadPool, NestedLoopsFinish) {
    ThreadPool pool(3);
    std::atomic<int> count{0};
    pool.parallel_for(
        10, [&](int64_t) { pool.parallel_for(10, [&](int64_t) { pool.parallel_for(3, [&](int64_t) { ++count; }); }); });
    EXPECT_EQ(count, 300);
}

TEST(ThreadPool, ManyCallersFinish) {
    ThreadPool pool(3);
    std::vector<std::thread> callers;
    std::vector<int64_t> sums(6, 0);
    for (size_t caller = 0; caller < sums.size(); ++caller) {
        callers.emplace_back([&, caller] {
            for (int round = 0; round < 300; ++round) {
                std::vector<int64_t> parts(17);
                pool.parallel_for(17, [&](int64_t block) { parts[static_cast<size_t>(block)] = block; });
                sums[caller] += std::accumulate(parts.begin(), parts.end(), int64_t{0});
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    for (int64_t sum : sums) EXPECT_EQ(sum, 300 * 136);
}

TEST(ThreadPool, ExceptionsReachTheCallerAndThePoolGoesOn) {
    ThreadPool pool(3);
    for (int round = 0; round < 50; ++round) {
        try {
            pool.parallel_for(64, [&](int64_t block) {
                if (block == 13) throw std::runtime_error("block 13");
            });
            FAIL() << "no exception";
        } catch (const std::runtime_error& error) {
            EXPECT_EQ(std::string(error.what()), "block 13");
        }
        std::atomic<int> count{0};
        pool.parallel_for(20, [&](int64_t) { ++count; });
        ASSERT_EQ(count, 20);
    }
}

TEST(ThreadPool, IdleThreadsUseNoProcessorTime) {
    ThreadPool pool(4);
    std::atomic<int> started{0};
    pool.parallel_for(4, [&](int64_t) {
        ++started;
        while (started < 4) std::this_thread::yield();
    });
    const std::clock_t before = std::clock();  // of the whole process
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const double used = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
    EXPECT_LT(used, 0.05);
}

TEST(ThreadPool, CreatingAndDestroyingIsCheapAndClean) {
    for (int i = 0; i < 200; ++i) {
        ThreadPool unused(4);
        ThreadPool used(4);
        std::atomic<int> count{0};
        used.parallel_for(4, [&](int64_t) { ++count; });
        ASSERT_EQ(count, 4);
    }
}

}  // namespace
}  // namespace moek::cpu
