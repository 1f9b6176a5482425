#include "cpu/common/context.hpp"

#include <algorithm>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace moek::cpu {

int32_t available_cores() {
#if defined(__linux__)
    // Containers and task sets lower this below the machine's number.
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()));
}

}  // namespace moek::cpu
