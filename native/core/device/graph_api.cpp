// C entry points for graphs. What a stream must be for a capture is the backend's to say: the CPU has none.
#include <memory>

#include "core/check.hpp"
#include "core/context.hpp"
#include "core/device/handles.hpp"

moek_status moek_graph_capture_begin(moek_context* context, void* stream) {
    return moek::guarded("moek_graph_capture_begin", [&] {
        moek::check_not_null("context", context);
        return moek::offered(context->backend.graph_capture_begin)(context->state, stream);
    });
}

moek_status moek_graph_capture_end(moek_context* context, void* stream, moek_graph** out_graph) {
    return moek::guarded("moek_graph_capture_end", [&] {
        moek::check_not_null("context", context);
        moek::check_not_null("out_graph", out_graph);
        *out_graph = nullptr;
        auto graph = std::make_unique<moek_graph>(moek_graph{context, nullptr});
        const moek_status status =
            moek::offered(context->backend.graph_capture_end)(context->state, stream, &graph->handle);
        if (status == MOEK_STATUS_CODE_OK) *out_graph = graph.release();
        return status;
    });
}

moek_status moek_graph_node_count(moek_context* context, const moek_graph* graph, uint64_t* out_count) {
    return moek::guarded("moek_graph_node_count", [&] {
        moek::check_not_null("context", context);
        moek::check_handle("graph", graph, context);
        moek::check_not_null("out_count", out_count);
        return moek::offered(context->backend.graph_node_count)(context->state, graph->handle, out_count);
    });
}

moek_status moek_graph_launch(moek_context* context, moek_graph* graph, void* stream) {
    return moek::guarded("moek_graph_launch", [&] {
        moek::check_not_null("context", context);
        moek::check_handle("graph", graph, context);
        return moek::offered(context->backend.graph_launch)(context->state, graph->handle, stream);
    });
}

moek_status moek_graph_destroy(moek_context* context, moek_graph* graph) {
    return moek::guarded("moek_graph_destroy", [&]() -> moek_status {
        moek::check_not_null("context", context);
        if (graph == nullptr) return MOEK_STATUS_CODE_OK;
        moek::check_handle("graph", graph, context);
        const std::unique_ptr<moek_graph> owned(graph);
        return moek::offered(context->backend.graph_destroy)(context->state, graph->handle);
    });
}
