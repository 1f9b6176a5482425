// The run-time library: the device, memory, streams, events, graphs, and several threads that launch.
#include <cstdint>
#include <cstring>
#include <thread>

#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

TEST(Runtime, TheDeviceIsWhatTheEnvironmentSays) {
    int count = 0, value = 0;
    EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
    EXPECT_EQ(count, 1);
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
    EXPECT_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
    const Environment capability("MOEK_EMULATION_CAPABILITY", "86");
    const Environment sm_count("MOEK_EMULATION_SM_COUNT", "84");
    cudaDeviceProp properties;
    ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
    EXPECT_STREQ(properties.name, "MoEKernels emulation");
    EXPECT_EQ(properties.major, 8);
    EXPECT_EQ(properties.minor, 6);
    EXPECT_EQ(properties.multiProcessorCount, 84);
    EXPECT_EQ(properties.sharedMemPerBlockOptin, 99u * 1024);
    EXPECT_EQ(cudaGetDeviceProperties(&properties, 1), cudaErrorInvalidDevice);
    EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
    EXPECT_EQ(value, 84);
    EXPECT_EQ(cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(9999), 0), cudaErrorInvalidValue);
}

TEST(Runtime, ErrorsHaveNamesAndAreRememberedOnce) {
    cudaGetLastError();
    EXPECT_STREQ(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation");
    EXPECT_STREQ(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
    EXPECT_STREQ(cudaGetErrorName(static_cast<cudaError_t>(12345)), "unrecognized error code");
    cudaSetDevice(7);
    EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidDevice);
    EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(Runtime, MemoryIsAllocatedFilledAndCopied) {
    size_t free_before = 0, total = 0, free_during = 0;
    ASSERT_EQ(cudaMemGetInfo(&free_before, &total), cudaSuccess);
    float* device = nullptr;
    ASSERT_EQ(cudaMalloc(&device, 1000 * sizeof(float)), cudaSuccess);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(device) % 256, 0u);
    EXPECT_NE(device[7], device[7]) << "fresh memory holds NaN";
    cudaMemGetInfo(&free_during, &total);
    EXPECT_EQ(free_before - free_during, 1000 * sizeof(float));
    EXPECT_EQ(cudaMemset(device, 0, 500 * sizeof(float)), cudaSuccess);
    EXPECT_EQ(device[499], 0.0f);
    const float source[2] = {1, 2};
    float target[2] = {};
    EXPECT_EQ(cudaMemcpy(device, source, sizeof(source), cudaMemcpyHostToDevice), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(target, device, sizeof(source), cudaMemcpyDefault), cudaSuccess);
    EXPECT_EQ(target[1], 2.0f);
    EXPECT_EQ(cudaMemcpy(device, nullptr, 4, cudaMemcpyDefault), cudaErrorInvalidValue);
    EXPECT_EQ(cudaMemcpy(device, source, 4, static_cast<cudaMemcpyKind>(5)), cudaErrorInvalidMemcpyDirection);

    cudaPointerAttributes attributes;
    ASSERT_EQ(cudaPointerGetAttributes(&attributes, device + 999), cudaSuccess);
    EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
    ASSERT_EQ(cudaPointerGetAttributes(&attributes, device + 1000), cudaSuccess);
    EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
    ASSERT_EQ(cudaPointerGetAttributes(&attributes, source), cudaSuccess);
    EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
    EXPECT_EQ(cudaFree(device + 1), cudaErrorInvalidValue);
    EXPECT_EQ(cudaFreeHost(device), cudaErrorInvalidValue);
    EXPECT_EQ(cudaFree(device), cudaSuccess);
    EXPECT_EQ(cudaFree(device), cudaErrorInvalidValue);
    EXPECT_EQ(cudaFree(nullptr), cudaSuccess);

    EXPECT_EQ(cudaMalloc(&device, total + 1), cudaErrorMemoryAllocation);
    EXPECT_EQ(device, nullptr);
    ASSERT_EQ(cudaMallocHost(&device, 16), cudaSuccess);
    ASSERT_EQ(cudaPointerGetAttributes(&attributes, device), cudaSuccess);
    EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
    EXPECT_EQ(cudaFreeHost(device), cudaSuccess);
    EXPECT_EQ(cudaHostRegister(target, sizeof(target), cudaHostRegisterDefault), cudaSuccess);
    EXPECT_EQ(cudaHostRegister(target, sizeof(target), cudaHostRegisterDefault), cudaErrorHostMemoryAlreadyRegistered);
    EXPECT_EQ(cudaHostUnregister(target), cudaSuccess);
    EXPECT_EQ(cudaHostUnregister(target), cudaErrorHostMemoryNotRegistered);
}

__global__ void add(int* values, int amount) {
    values[threadIdx.x] += amount;
}

cudaError_t launch_add(int* values, int amount, cudaStream_t stream) {
    return launch(add, 1, 4, 0, stream, values, amount);
}

class Stream {
  public:
    explicit Stream(unsigned flags = cudaStreamNonBlocking) {
        EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, flags), cudaSuccess);
    }
    ~Stream() { EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    operator cudaStream_t() const { return stream_; }

  private:
    cudaStream_t stream_;
};

class Event {
  public:
    Event() { EXPECT_EQ(cudaEventCreate(&event_), cudaSuccess); }
    ~Event() { EXPECT_EQ(cudaEventDestroy(event_), cudaSuccess); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    operator cudaEvent_t() const { return event_; }

  private:
    cudaEvent_t event_;
};

TEST(Streams, TakeWorkAndAreTimed) {
    int values[4] = {};
    const Stream stream;
    const Event start, end;
    float milliseconds = -1;
    EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);
    EXPECT_EQ(cudaEventRecord(start, stream), cudaSuccess);
    EXPECT_EQ(launch_add(values, 3, stream), cudaSuccess);
    EXPECT_EQ(launch_add(values, 1, nullptr), cudaSuccess);
    EXPECT_EQ(launch_add(values, 1, cudaStreamLegacy), cudaSuccess);
    EXPECT_EQ(launch_add(values, 1, cudaStreamPerThread), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(end, stream), cudaSuccess);
    EXPECT_EQ(cudaEventSynchronize(end), cudaSuccess);
    EXPECT_EQ(cudaEventQuery(end), cudaSuccess);
    EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaSuccess);
    EXPECT_GE(milliseconds, 0.0f);
    EXPECT_EQ(cudaStreamWaitEvent(stream, end), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(values[3], 6);
    cudaStream_t destroyed;
    ASSERT_EQ(cudaStreamCreate(&destroyed), cudaSuccess);
    ASSERT_EQ(cudaStreamDestroy(destroyed), cudaSuccess);
    EXPECT_EQ(launch_add(values, 1, destroyed), cudaErrorInvalidResourceHandle);
}

TEST(Graphs, RecordAndReplayLaunchesMemsetsAndCopies) {
    int values[4] = {5, 5, 5, 5};
    int copy[4] = {};
    const Stream stream;
    cudaGraph_t graph = nullptr;
    cudaStreamCaptureStatus status;
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    EXPECT_EQ(cudaStreamIsCapturing(stream, &status), cudaSuccess);
    EXPECT_EQ(status, cudaStreamCaptureStatusActive);
    EXPECT_EQ(cudaMemsetAsync(values, 0, sizeof(int), stream), cudaSuccess);
    EXPECT_EQ(launch_add(values, 3, stream), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(copy, values, sizeof(values), cudaMemcpyDefault, stream), cudaSuccess);
    EXPECT_EQ(launch_add(values, 10, stream), cudaSuccess);
    ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    EXPECT_EQ(values[0], 5) << "a capture runs nothing";

    size_t nodes = 0;
    EXPECT_EQ(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
    EXPECT_EQ(nodes, 4u);
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    for (int round = 1; round <= 3; ++round) {
        ASSERT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
        EXPECT_EQ(values[0], 13);
        EXPECT_EQ(values[1], 5 + 13 * round);
        EXPECT_EQ(copy[0], 3);
        EXPECT_EQ(copy[1], 5 + 13 * round - 10);
    }
    // A graph's launch can be captured in turn.
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
    ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, nullptr), cudaSuccess);
    EXPECT_EQ(values[1], 5 + 13 * 4);
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

// What a call does to a capture that is under way: its error, and the one that ends the capture.
template <class Call>
void expect_forbidden(cudaStreamCaptureMode mode, cudaError_t error, Call call,
                      unsigned flags = cudaStreamNonBlocking) {
    const Stream stream(flags);
    ASSERT_EQ(cudaStreamBeginCapture(stream, mode), cudaSuccess);
    EXPECT_EQ(call(stream), error);
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusActive;
    cudaStreamIsCapturing(stream, &status);
    EXPECT_EQ(status, error == cudaSuccess ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusInvalidated);
    int values[4] = {};
    EXPECT_EQ(launch_add(values, 1, stream), error == cudaSuccess ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph),
              error == cudaSuccess ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph == nullptr, error != cudaSuccess);
    if (graph != nullptr) cudaGraphDestroy(graph);
    EXPECT_EQ(launch_add(values, 1, stream), cudaSuccess) << "the stream is as good as new";
}

TEST(Graphs, CallsThatACaptureForbidsInvalidateIt) {
    const auto unsupported = cudaErrorStreamCaptureUnsupported;
    const auto allocate = [](cudaStream_t) {
        void* address = nullptr;
        const cudaError_t error = cudaMalloc(&address, 16);
        if (error == cudaSuccess) std::free(address);
        return error;
    };
    void* memory = nullptr;
    ASSERT_EQ(cudaMalloc(&memory, 16), cudaSuccess);
    for (auto mode : {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal}) {
        expect_forbidden(mode, unsupported, allocate);
        expect_forbidden(mode, unsupported, [&](cudaStream_t) { return cudaFree(memory); });
        expect_forbidden(mode, unsupported, [](cudaStream_t stream) { return cudaStreamSynchronize(stream); });
        expect_forbidden(mode, unsupported, [](cudaStream_t stream) { return cudaStreamQuery(stream); });
        expect_forbidden(mode, unsupported, [](cudaStream_t) { return cudaDeviceSynchronize(); });
    }
    EXPECT_EQ(cudaFree(memory), cudaSuccess);
    expect_forbidden(cudaStreamCaptureModeRelaxed, unsupported,
                     [](cudaStream_t stream) { return cudaStreamSynchronize(stream); });
    expect_forbidden(cudaStreamCaptureModeRelaxed, cudaSuccess, [](cudaStream_t) {
        void* address = nullptr;
        const cudaError_t error = cudaMalloc(&address, 16);
        EXPECT_EQ(cudaFree(address), cudaSuccess);
        return error;
    });
    // Another thread's capture forbids an unsafe call when it is global, and only then.
    for (auto mode : {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal}) {
        expect_forbidden(mode, mode == cudaStreamCaptureModeGlobal ? unsupported : cudaSuccess, [&](cudaStream_t) {
            cudaError_t error = cudaSuccess;
            std::thread([&] {
                void* address = nullptr;
                error = cudaMalloc(&address, 16);
                if (error == cudaSuccess) cudaFree(address);
            }).join();
            return error;
        });
    }
    // The default stream would wait for a stream that blocks it.
    int values[4] = {};
    const auto on_default = [&](cudaStream_t) { return launch_add(values, 1, nullptr); };
    expect_forbidden(cudaStreamCaptureModeRelaxed, cudaErrorStreamCaptureImplicit, on_default, cudaStreamDefault);
    expect_forbidden(cudaStreamCaptureModeRelaxed, cudaSuccess, on_default);
}

TEST(Graphs, StreamsJoinThroughEvents) {
    int values[4] = {};
    const Stream first, second;
    const Event forked, joined, outside;
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaEventRecord(outside, second), cudaSuccess);
    ASSERT_EQ(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal), cudaSuccess);
    EXPECT_EQ(launch_add(values, 1, first), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(forked, first), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(second, forked), cudaSuccess);
    EXPECT_EQ(launch_add(values, 2, second), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(joined, second), cudaSuccess);
    EXPECT_EQ(cudaEventSynchronize(joined), cudaErrorCapturedEvent);
    EXPECT_EQ(cudaStreamWaitEvent(first, joined), cudaSuccess);
    ASSERT_EQ(cudaStreamEndCapture(first, &graph), cudaSuccess);
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph), cudaSuccess);
    EXPECT_EQ(cudaGraphLaunch(executable, first), cudaSuccess);
    EXPECT_EQ(values[0], 3);
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);

    ASSERT_EQ(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(forked, first), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(second, forked), cudaSuccess);
    EXPECT_EQ(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureUnjoined);

    ASSERT_EQ(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(first, outside), cudaErrorStreamCaptureIsolation);
    EXPECT_EQ(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(cudaStreamEndCapture(first, &graph), cudaErrorIllegalState);
    EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
}

__global__ void count_up(int rounds, int* out) {
    int value = static_cast<int>(threadIdx.x);
    for (int i = 0; i < rounds; ++i) value = __shfl_xor_sync(0xFFFFFFFFu, value, 1) + 1;
    out[threadIdx.x] = value;
}

TEST(Threads, LaunchAtTheSameTime) {
    std::vector<std::thread> threads;
    std::vector<std::vector<int>> results(4, std::vector<int>(32));
    for (int thread = 0; thread < 4; ++thread) {
        threads.emplace_back([&results, thread] {
            for (int i = 0; i < 20; ++i) {
                EXPECT_EQ(
                    launch(count_up, 1, 32, 0, nullptr, 100 + thread, results[static_cast<size_t>(thread)].data()),
                    cudaSuccess);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (int thread = 0; thread < 4; ++thread) {
        for (int lane = 0; lane < 32; ++lane) {
            const int source = thread % 2 == 0 ? lane : lane ^ 1;
            EXPECT_EQ(results[static_cast<size_t>(thread)][static_cast<size_t>(lane)], source + 100 + thread);
        }
    }
}

}  // namespace
}  // namespace moek::emulation::test
