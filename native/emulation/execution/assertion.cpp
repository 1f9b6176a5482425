// What the macro `assert` calls. In a kernel it ends the kernel with cudaErrorAssert, as on a GPU; anywhere else the process.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "emulation/execution/scheduler.hpp"

extern "C" [[noreturn]] __attribute__((visibility("hidden"))) void __assert_fail(const char* expression,
                                                                                 const char* file, unsigned line,
                                                                                 const char* function) noexcept {
    const std::string text = std::string("assertion '") + expression + "' failed in " + function + " (" + file + ":" +
                             std::to_string(line) + ")";
    moek::emulation::Scheduler& scheduler = moek::emulation::Scheduler::instance();
    if (scheduler.running()) scheduler.fail(cudaErrorAssert, text, {});
    std::fprintf(stderr, "%s\n", text.c_str());
    std::abort();
}
