// What the tests of the emulation share.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "emulation/execution/statistics.hpp"
#include "emulation/launch.hpp"
#include "tests/support/environment.hpp"

namespace moek::emulation::test {

using moek::test::Environment;

// The schedule of the launches that follow, while it lives.
class Schedule {
  public:
    explicit Schedule(unsigned seed, unsigned preempt = 0, unsigned resident = 0)
        : seed_("MOEK_EMULATION_SEED", std::to_string(seed)),
          preempt_("MOEK_EMULATION_PREEMPT", std::to_string(preempt)),
          resident_("MOEK_EMULATION_RESIDENT", resident == 0 ? "" : std::to_string(resident)) {}

  private:
    Environment seed_;
    Environment preempt_;
    Environment resident_;
};

// Launches a kernel that must succeed.
template <class... Parameters>
void run(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::type_identity_t<Parameters>... arguments) {
    const cudaError_t error = launch(kernel, grid, block, 0, nullptr, arguments...);
    ASSERT_EQ(error, cudaSuccess) << cudaGetErrorName(error) << ": " << cudaGetErrorString(error);
}

}  // namespace moek::emulation::test

// Succeeds when the call returned `error` and its text holds `part`.
#define MOEK_EXPECT_FAILURE(call, error, part)                                                                        \
    do {                                                                                                              \
        EXPECT_EQ((call), (error)) << cudaGetErrorString(cudaPeekAtLastError());                                      \
        EXPECT_NE(std::string(cudaGetErrorString(error)).find(part), std::string::npos) << cudaGetErrorString(error); \
    } while (false)
