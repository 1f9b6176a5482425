// C entry points for streams.
#include "core/check.hpp"
#include "core/context.hpp"
#include "core/device/handles.hpp"

moek_status moek_stream_create(moek_context* context, void** out_stream) {
    return moek::guarded("moek_stream_create", [&] {
        moek::check_not_null("context", context);
        moek::check_not_null("out_stream", out_stream);
        *out_stream = nullptr;
        return moek::offered(context->backend.stream_create)(context->state, out_stream);
    });
}

moek_status moek_stream_destroy(moek_context* context, void* stream) {
    return moek::guarded("moek_stream_destroy", [&]() -> moek_status {
        moek::check_not_null("context", context);
        moek::check_stream(*context, stream);
        if (stream == nullptr) return MOEK_STATUS_CODE_OK;
        return moek::offered(context->backend.stream_destroy)(context->state, stream);
    });
}

moek_status moek_stream_synchronize(moek_context* context, void* stream) {
    return moek::guarded("moek_stream_synchronize", [&] {
        moek::check_not_null("context", context);
        moek::check_stream(*context, stream);
        return moek::offered(context->backend.stream_synchronize)(context->state, stream);
    });
}

moek_status moek_stream_wait_event(moek_context* context, void* stream, moek_event* event) {
    return moek::guarded("moek_stream_wait_event", [&] {
        moek::check_not_null("context", context);
        moek::check_stream(*context, stream);
        moek::check_handle("event", event, context);
        return moek::offered(context->backend.stream_wait_event)(context->state, stream, event->handle);
    });
}
