// Timing for the native benchmarks.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace moek::bench {

struct Timing {
    double best;    // seconds
    double median;  // seconds
};

// Runs `body` for at least `seconds` and five times, after one run to warm up.
template <class Body>
Timing measure(Body&& body, double seconds = 0.5) {
    using Clock = std::chrono::steady_clock;
    const auto since = [](Clock::time_point start) {
        return std::chrono::duration<double>(Clock::now() - start).count();
    };
    body();
    std::vector<double> times;
    const Clock::time_point begin = Clock::now();
    while (times.size() < 5 || since(begin) < seconds) {
        const Clock::time_point start = Clock::now();
        body();
        times.push_back(since(start));
    }
    std::sort(times.begin(), times.end());
    return {times.front(), times[times.size() / 2]};
}

// The value after `--name`, or `fallback`.
inline const char* option(int count, char** values, const char* name, const char* fallback) {
    for (int i = 1; i + 1 < count; ++i) {
        if (std::strcmp(values[i], name) == 0) return values[i + 1];
    }
    return fallback;
}

// A fixed pseudo-random matrix in [-0.5, 0.5).
inline std::vector<float> random_matrix(int64_t rows, int64_t columns, uint64_t seed) {
    std::vector<float> values(static_cast<size_t>(rows * columns));
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    for (float& value : values) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        value = static_cast<float>(state >> 40) * 0x1p-24f - 0.5f;
    }
    return values;
}

}  // namespace moek::bench
