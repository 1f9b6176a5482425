// C entry points for memory of a context's device.
#include <cstdint>
#include <limits>
#include <string>

#include "core/check.hpp"
#include "core/context.hpp"

namespace moek {
namespace {

void check_bytes(uint64_t bytes) {
    constexpr auto most = static_cast<uint64_t>(std::numeric_limits<ptrdiff_t>::max());
    if (bytes > most) fail_argument("bytes", std::to_string(bytes), "at most " + std::to_string(most));
}

void check_apart(const void* destination, const void* source, uint64_t bytes) {
    const auto a = reinterpret_cast<uintptr_t>(destination);
    const auto b = reinterpret_cast<uintptr_t>(source);
    if ((a < b ? b - a : a - b) < bytes) {
        fail_argument("destination", "memory that overlaps source", "memory of its own");
    }
}

}  // namespace
}  // namespace moek

moek_status moek_memory_query(moek_context* context, uint64_t* out_free, uint64_t* out_total) {
    return moek::guarded("moek_memory_query", [&] {
        moek::check_not_null("context", context);
        moek::check_not_null("out_free", out_free);
        moek::check_not_null("out_total", out_total);
        return moek::offered(context->backend.memory_query)(context->state, out_free, out_total);
    });
}

moek_status moek_memory_allocate(moek_context* context, uint64_t bytes, void** out_memory) {
    return moek::guarded("moek_memory_allocate", [&]() -> moek_status {
        moek::check_not_null("context", context);
        moek::check_not_null("out_memory", out_memory);
        *out_memory = nullptr;
        moek::check_bytes(bytes);
        if (bytes == 0) return MOEK_STATUS_CODE_OK;
        return moek::offered(context->backend.memory_allocate)(context->state, bytes, out_memory);
    });
}

moek_status moek_memory_free(moek_context* context, void* memory) {
    return moek::guarded("moek_memory_free", [&]() -> moek_status {
        moek::check_not_null("context", context);
        if (memory == nullptr) return MOEK_STATUS_CODE_OK;
        return moek::offered(context->backend.memory_free)(context->state, memory);
    });
}

moek_status moek_memory_copy(moek_context* context, void* destination, const void* source, uint64_t bytes, int32_t kind,
                             void* stream) {
    return moek::guarded("moek_memory_copy", [&]() -> moek_status {
        moek::check_not_null("context", context);
        moek::check_bytes(bytes);
        moek::check_enum("kind", kind, 3, "moek_copy_kind");
        moek::check_stream(*context, stream);
        if (bytes == 0) return MOEK_STATUS_CODE_OK;
        moek::check_not_null("destination", destination);
        moek::check_not_null("source", source);
        moek::check_apart(destination, source, bytes);
        return moek::offered(context->backend.memory_copy)(context->state, destination, source, bytes, kind, stream);
    });
}

moek_status moek_memory_set(moek_context* context, void* destination, int32_t value, uint64_t bytes, void* stream) {
    return moek::guarded("moek_memory_set", [&]() -> moek_status {
        moek::check_not_null("context", context);
        moek::check_range("value", value, 0, 255);
        moek::check_bytes(bytes);
        moek::check_stream(*context, stream);
        if (bytes == 0) return MOEK_STATUS_CODE_OK;
        moek::check_not_null("destination", destination);
        return moek::offered(context->backend.memory_set)(context->state, destination, value, bytes, stream);
    });
}
