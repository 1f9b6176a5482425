// What the macro `assert` calls. In a kernel it ends the kernel with cudaErrorAssert, as on a GPU; anywhere else the process.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "emulation/execution/scheduler.hpp"

extern "C" [[noreturn]] __attribute__((visibility("hidden"))) void __assert_fail(const char* expression,
                                                                                 const char* file, unsigned line,
                                                                                 const char* function) noexcept {
    moek::emulation::Scheduler& scheduler = moek::emulation::Scheduler::instance();
    if (scheduler.running()) {
        scheduler.fail(cudaErrorAssert, {}, [&] {
            return std::string("assertion '") + expression + "' failed in " + function + " (" + file + ":" +
                   std::to_string(line) + ")";
        });
    }
    std::fprintf(stderr, "%s:%u: %s: Assertion '%s' failed.\n", file, line, function, expression);
    std::abort();
}
