#include "emulation/execution/options.hpp"

#include <cstdlib>
#include <limits>

namespace moek::emulation {

long environment_number(const char* name, long otherwise, long least, long most) {
    const char* text = std::getenv(name);
    if (text == nullptr || *text == '\0') return otherwise;
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    return *end == '\0' && value >= least && value <= most ? value : otherwise;
}

Options options_from_environment() {
    Options options;
    options.seed =
        static_cast<uint64_t>(environment_number("MOEK_EMULATION_SEED", 0, 0, std::numeric_limits<long>::max()));
    options.preempt = static_cast<unsigned>(environment_number("MOEK_EMULATION_PREEMPT", 0, 0, 100));
    options.resident =
        static_cast<unsigned>(environment_number("MOEK_EMULATION_RESIDENT", options.seed == 0 ? 1 : 2, 1, 64));
    return options;
}

}  // namespace moek::emulation
