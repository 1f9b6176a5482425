#include <algorithm>

#include "emulation/runtime/api.hpp"
#include "emulation/runtime/capture.hpp"
#include "emulation/runtime/error.hpp"

using namespace moek::emulation;

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
    if (nodes == nullptr) {
        *count = graph->nodes.size();
        return cudaSuccess;
    }
    *count = std::min(*count, graph->nodes.size());
    for (size_t i = 0; i < *count; ++i) nodes[i] = reinterpret_cast<cudaGraphNode_t>(&graph->nodes[i]);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
    if (graph == nullptr) return result(cudaErrorInvalidValue);
    *executable = new CUgraphExec_st{graph->nodes};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    if (executable == nullptr) return result(cudaErrorInvalidValue);
    // A copy: the graph may be destroyed before a capture that holds its launch is replayed.
    return submit(stream, [nodes = executable->nodes] {
        for (const Work& node : nodes) {
            const cudaError_t error = node();
            if (error != cudaSuccess) return error;
        }
        return cudaSuccess;
    });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete executable;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
