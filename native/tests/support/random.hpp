// Random test data with a seed that is printed when a test fails.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace moek::test {

// The seed of this run: MOEK_TEST_SEED, or a fixed one, so that a plain run is reproducible.
inline uint64_t run_seed() {
    const char* text = std::getenv("MOEK_TEST_SEED");
    return text == nullptr ? 20260101u : std::strtoull(text, nullptr, 10);
}

// A generator for one test. Each gets its own sequence from its name; a failure message names seed and test.
class Random {
  public:
    Random() : Random(current_test_name()) {}
    explicit Random(const std::string& name)
        : trace_(__FILE__, __LINE__, "repeat with MOEK_TEST_SEED=" + std::to_string(run_seed())) {
        std::vector<uint32_t> words(name.begin(), name.end());
        words.push_back(static_cast<uint32_t>(run_seed()));
        words.push_back(static_cast<uint32_t>(run_seed() >> 32));
        std::seed_seq sequence(words.begin(), words.end());
        engine_.seed(sequence);
    }

    double normal(double deviation = 1) { return std::normal_distribution<double>(0, deviation)(engine_); }
    double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(engine_); }
    int64_t integer(int64_t least, int64_t most) {
        return std::uniform_int_distribution<int64_t>(least, most)(engine_);
    }
    std::vector<double> normals(int64_t count, double deviation = 1) {
        std::vector<double> values(static_cast<size_t>(count));
        for (double& value : values) value = normal(deviation);
        return values;
    }
    std::mt19937_64& engine() { return engine_; }

  private:
    static std::string current_test_name() {
        const auto* info = testing::UnitTest::GetInstance()->current_test_info();
        return info == nullptr ? "" : std::string(info->test_suite_name()) + "." + info->name();
    }

    testing::ScopedTrace trace_;
    std::mt19937_64 engine_;
};

}  // namespace moek::test
