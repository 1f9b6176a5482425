// Events and graphs as the core hands them out: the backend's own pointer, and the context that it belongs to.
#pragma once

#include <string>

#include "core/check.hpp"
#include "moekernels.h"

struct moek_event {
    const moek_context* context;
    void* handle;  // the backend's
};

struct moek_graph {
    const moek_context* context;
    void* handle;  // the backend's
};

namespace moek {

// An event or a graph that `context` made.
template <class Handle>
void check_handle(const char* argument, const Handle* handle, const moek_context* context) {
    check_not_null(argument, handle);
    if (handle->context != context) fail_argument(argument, "one of another context", "one of this context");
}

}  // namespace moek
