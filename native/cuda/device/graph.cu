#include <cuda_runtime.h>

#include <memory>

#include "cuda/common/device.hpp"
#include "cuda/common/error.hpp"
#include "cuda/device/graph.hpp"
#include "cuda/device/stream.hpp"

namespace moek::cuda {
namespace {

struct Graph {
    cudaGraphExec_t executable = nullptr;
    uint64_t node_count = 0;
};

// What a capture gives: the description that an executable graph is made from.
class Template {
  public:
    explicit Template(cudaGraph_t graph) : graph_(graph) {}
    ~Template() { cudaGraphDestroy(graph_); }
    Template(const Template&) = delete;
    Template& operator=(const Template&) = delete;

    uint64_t node_count() const {
        size_t count = 0;
        check(cudaGraphGetNodes(graph_, nullptr, &count), "cudaGraphGetNodes");
        return count;
    }

    cudaGraphExec_t instantiate() const {
        cudaGraphExec_t executable = nullptr;
        check(cudaGraphInstantiate(&executable, graph_, 0), "cudaGraphInstantiate");
        return executable;
    }

  private:
    cudaGraph_t graph_;
};

void require_own_stream(void* stream) {
    if (stream != nullptr) return;
    throw Error(MOEK_STATUS_CODE_INVALID_ARGUMENT,
                "stream: got null, expected a stream of its own: the default stream cannot be captured");
}

}  // namespace

moek_status graph_capture_begin(void* state, void* stream) {
    return guarded([&] {
        require_own_stream(stream);
        const DeviceGuard guard(device_of(state));
        require_not_captured(stream, "a capture must end before the next one begins");
        // What other threads do meanwhile, such as allocating, is their own business.
        check(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    });
}

moek_status graph_capture_end(void* state, void* stream, void** out_graph) {
    return guarded([&] {
        require_own_stream(stream);
        const DeviceGuard guard(device_of(state));
        if (!is_captured(stream)) {
            throw Error(MOEK_STATUS_CODE_INVALID_ARGUMENT,
                        "stream: got one that is not captured, expected one whose capture began");
        }
        cudaGraph_t captured = nullptr;
        check(cudaStreamEndCapture(stream_of(stream), &captured), "cudaStreamEndCapture");
        const Template description(captured);
        auto graph = std::make_unique<Graph>();
        graph->node_count = description.node_count();
        graph->executable = description.instantiate();
        *out_graph = graph.release();
    });
}

moek_status graph_node_count(void*, const void* graph, uint64_t* out_count) {
    return guarded([&] { *out_count = static_cast<const Graph*>(graph)->node_count; });
}

moek_status graph_launch(void* state, void* graph, void* stream) {
    return guarded([&] {
        const DeviceGuard guard(device_of(state));
        require_not_captured(stream, "a graph cannot become part of another one");
        check(cudaGraphLaunch(static_cast<const Graph*>(graph)->executable, stream_of(stream)), "cudaGraphLaunch");
    });
}

moek_status graph_destroy(void* state, void* graph) {
    return guarded([&] {
        const std::unique_ptr<Graph> owned(static_cast<Graph*>(graph));
        const DeviceGuard guard(device_of(state));
        check(cudaGraphExecDestroy(owned->executable), "cudaGraphExecDestroy");
    });
}

}  // namespace moek::cuda
