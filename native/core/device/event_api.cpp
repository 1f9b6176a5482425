// C entry points for events.
#include <memory>

#include "core/check.hpp"
#include "core/context.hpp"
#include "core/device/handles.hpp"

moek_status moek_event_create(moek_context* context, moek_event** out_event) {
    return moek::guarded("moek_event_create", [&] {
        moek::check_not_null("context", context);
        moek::check_not_null("out_event", out_event);
        *out_event = nullptr;
        auto event = std::make_unique<moek_event>(moek_event{context, nullptr});
        const moek_status status = moek::offered(context->backend.event_create)(context->state, &event->handle);
        if (status == MOEK_STATUS_CODE_OK) *out_event = event.release();
        return status;
    });
}

moek_status moek_event_destroy(moek_context* context, moek_event* event) {
    return moek::guarded("moek_event_destroy", [&]() -> moek_status {
        moek::check_not_null("context", context);
        if (event == nullptr) return MOEK_STATUS_CODE_OK;
        moek::check_handle("event", event, context);
        const std::unique_ptr<moek_event> owned(event);
        return moek::offered(context->backend.event_destroy)(context->state, event->handle);
    });
}

moek_status moek_event_record(moek_context* context, moek_event* event, void* stream) {
    return moek::guarded("moek_event_record", [&] {
        moek::check_not_null("context", context);
        moek::check_handle("event", event, context);
        moek::check_stream(*context, stream);
        return moek::offered(context->backend.event_record)(context->state, event->handle, stream);
    });
}

moek_status moek_event_synchronize(moek_context* context, moek_event* event) {
    return moek::guarded("moek_event_synchronize", [&] {
        moek::check_not_null("context", context);
        moek::check_handle("event", event, context);
        return moek::offered(context->backend.event_synchronize)(context->state, event->handle);
    });
}

moek_status moek_event_elapsed(moek_context* context, moek_event* start, moek_event* end, double* out_milliseconds) {
    return moek::guarded("moek_event_elapsed", [&] {
        moek::check_not_null("context", context);
        moek::check_handle("start", start, context);
        moek::check_handle("end", end, context);
        moek::check_not_null("out_milliseconds", out_milliseconds);
        return moek::offered(context->backend.event_elapsed)(context->state, start->handle, end->handle,
                                                             out_milliseconds);
    });
}
