// A context on the device under test that lives as long as the test.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "moekernels.h"
#include "tests/support/tensor.hpp"

namespace moek::test {

inline std::string last_error() {
    char buffer[2048];
    EXPECT_EQ(moek_last_error(buffer, sizeof(buffer)), MOEK_STATUS_CODE_OK);
    return buffer;
}

class Context {
  public:
    explicit Context(int32_t thread_count = 2, int32_t isa = MOEK_ISA_AUTO) {
        moek_context_options options = device_options();
        if (!on_cuda()) {
            options.thread_count = thread_count;
            options.isa = isa;
        }
        EXPECT_EQ(moek_context_create(&options, &context_), MOEK_STATUS_CODE_OK) << last_error();
    }
    ~Context() { EXPECT_EQ(moek_context_destroy(context_), MOEK_STATUS_CODE_OK); }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    operator moek_context*() const { return context_; }

  private:
    moek_context* context_ = nullptr;
};

// Instruction sets this machine can run, SCALAR first; AUTO alone on a GPU.
inline std::vector<int32_t> available_isas() {
    if (on_cuda()) return {MOEK_ISA_AUTO};
    std::vector<int32_t> isas;
    for (int32_t isa = MOEK_ISA_SCALAR; isa <= MOEK_ISA_AVX512_BF16; ++isa) {
        moek_context_options options = {};
        options.struct_size = sizeof(options);
        options.isa = isa;
        moek_context* context = nullptr;
        if (moek_context_create(&options, &context) == MOEK_STATUS_CODE_OK) isas.push_back(isa);
        moek_context_destroy(context);
    }
    return isas;
}

// An op's workspace and run functions with their struct, called with a workspace of exactly the size asked for.
template <class Args>
moek_status run(moek_status (*query)(moek_context*, const Args*, uint64_t*),
                moek_status (*call)(moek_context*, const Args*, void*, uint64_t, void*), moek_context* context,
                const Args& args) {
    uint64_t bytes = 0;
    const moek_status status = query(context, &args, &bytes);
    if (status != MOEK_STATUS_CODE_OK) return status;
    GuardedBytes workspace(bytes);
    const moek_status result = call(context, &args, bytes == 0 ? nullptr : workspace.data(), bytes, nullptr);
    wait_for_device();
    return result;
}

}  // namespace moek::test

// Succeeds when the call returned `status` and its error text holds `part`.
#define MOEK_EXPECT_ERROR(call, expected_status, part)                                                     \
    do {                                                                                                   \
        EXPECT_EQ((call), (expected_status)) << ::moek::test::last_error();                                \
        EXPECT_NE(::moek::test::last_error().find(part), std::string::npos) << ::moek::test::last_error(); \
    } while (false)
