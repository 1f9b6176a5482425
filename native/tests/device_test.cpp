// Memory, streams, events and graphs of a context: on the CPU, on the emulated CUDA library, and with MOEK_TEST_DEVICE=cuda on
// the GPU, see support/device.hpp.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/context.hpp"

namespace moek::test {
namespace {

using Bytes = std::vector<unsigned char>;

constexpr moek_status kOk = MOEK_STATUS_CODE_OK;
constexpr moek_status kBad = MOEK_STATUS_CODE_INVALID_ARGUMENT;

#define MOEK_EXPECT_OK(call) EXPECT_EQ((call), kOk) << last_error()

// Where a test runs.
struct Place {
    const char* name;
    int32_t device_type;
    const char* cuda_library;
};

// A context of any place, or none.
class AnyContext {
  public:
    explicit AnyContext(const Place& place) {
        moek_context_options options = {};
        options.struct_size = sizeof(options);
        options.device_type = place.device_type;
        options.cuda_library = place.cuda_library;
        moek_context_create(&options, &context_);
    }
    ~AnyContext() { MOEK_EXPECT_OK(moek_context_destroy(context_)); }
    AnyContext(const AnyContext&) = delete;
    AnyContext& operator=(const AnyContext&) = delete;

    operator moek_context*() const { return context_; }

  private:
    moek_context* context_ = nullptr;
};

constexpr Place kCpu = {"Cpu", MOEK_DEVICE_TYPE_CPU, nullptr};

std::vector<Place> cuda_places() {
    std::vector<Place> places;
#if defined(MOEK_EMULATED_LIBRARY)
    places.push_back({"Emulated", MOEK_DEVICE_TYPE_CUDA, MOEK_EMULATED_LIBRARY});
#endif
    if (on_cuda()) places.push_back({"Gpu", MOEK_DEVICE_TYPE_CUDA, cuda_library()});
    return places;
}

std::vector<Place> places() {
    std::vector<Place> places = cuda_places();
    places.insert(places.begin(), kCpu);
    return places;
}

class Memory {
  public:
    Memory(moek_context* context, const Bytes& content) : context_(context), size_(content.size()) {
        MOEK_EXPECT_OK(moek_memory_allocate(context, size_, &address_));
        write(content);
    }
    ~Memory() { MOEK_EXPECT_OK(moek_memory_free(context_, address_)); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    operator void*() const { return address_; }
    unsigned char* at(size_t offset) const { return static_cast<unsigned char*>(address_) + offset; }

    void write(const Bytes& content) const {
        MOEK_EXPECT_OK(moek_memory_copy(context_, address_, content.data(), content.size(),
                                        MOEK_COPY_KIND_HOST_TO_DEVICE, nullptr));
    }
    Bytes read(void* stream = nullptr) const {
        Bytes content(size_, 0xEE);
        MOEK_EXPECT_OK(
            moek_memory_copy(context_, content.data(), address_, size_, MOEK_COPY_KIND_DEVICE_TO_HOST, stream));
        return content;
    }

  private:
    moek_context* context_;
    uint64_t size_;
    void* address_ = nullptr;
};

class Stream {
  public:
    explicit Stream(moek_context* context) : context_(context) {
        MOEK_EXPECT_OK(moek_stream_create(context, &stream_));
    }
    ~Stream() { MOEK_EXPECT_OK(moek_stream_destroy(context_, stream_)); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    operator void*() const { return stream_; }

  private:
    moek_context* context_;
    void* stream_ = nullptr;
};

class Event {
  public:
    explicit Event(moek_context* context) : context_(context) { MOEK_EXPECT_OK(moek_event_create(context, &event_)); }
    ~Event() { MOEK_EXPECT_OK(moek_event_destroy(context_, event_)); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    operator moek_event*() const { return event_; }

  private:
    moek_context* context_;
    moek_event* event_ = nullptr;
};

// What `work` queues on the stream, captured.
class Graph {
  public:
    Graph(moek_context* context, void* stream, const std::function<void()>& work) : context_(context) {
        MOEK_EXPECT_OK(moek_graph_capture_begin(context, stream));
        work();
        MOEK_EXPECT_OK(moek_graph_capture_end(context, stream, &graph_));
    }
    ~Graph() { MOEK_EXPECT_OK(moek_graph_destroy(context_, graph_)); }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    operator moek_graph*() const { return graph_; }

  private:
    moek_context* context_;
    moek_graph* graph_ = nullptr;
};

Bytes counting(size_t size) {
    Bytes bytes(size);
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<unsigned char>(i * 7 + 1);
    return bytes;
}

class OnDevice : public testing::TestWithParam<Place> {
  protected:
    OnDevice() : context_(GetParam()) {}

    void SetUp() override { ASSERT_NE(context_, nullptr) << last_error(); }
    bool is_cpu() const { return GetParam().device_type == MOEK_DEVICE_TYPE_CPU; }

    AnyContext context_;
};

class OnCuda : public OnDevice {};

std::string name_of(const testing::TestParamInfo<Place>& info) {
    return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Device, OnDevice, testing::ValuesIn(places()), name_of);
INSTANTIATE_TEST_SUITE_P(Device, OnCuda, testing::ValuesIn(cuda_places()), name_of);
// A system without the emulation and without a GPU.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OnCuda);

// ---------------------------------------------------------------------------------------------------------------------
// The device
// ---------------------------------------------------------------------------------------------------------------------

TEST_P(OnDevice, IsDescribedThroughItsContext) {
    moek_device_info info = {};
    info.struct_size = sizeof(info);
    MOEK_EXPECT_OK(moek_context_device_query(context_, &info));
    EXPECT_EQ(info.device_type, GetParam().device_type);
    EXPECT_EQ(info.device_index, 0);
    EXPECT_GE(info.core_count, 1);
    EXPECT_EQ(info.capability_major == 0, is_cpu());
    EXPECT_GT(std::string(info.name).size(), 0u);
    MOEK_EXPECT_ERROR(moek_context_device_query(nullptr, &info), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_context_device_query(context_, nullptr), kBad, "out_info: got null");
    info.struct_size = 2;
    MOEK_EXPECT_ERROR(moek_context_device_query(context_, &info), kBad, "out_info->struct_size: got 2");
}

TEST_P(OnDevice, TellsItsMemory) {
    uint64_t free = 0;
    uint64_t total = 0;
    MOEK_EXPECT_OK(moek_memory_query(context_, &free, &total));
    EXPECT_LE(free, total);
    moek_device_info info = {};
    info.struct_size = sizeof(info);
    MOEK_EXPECT_OK(moek_context_device_query(context_, &info));
    EXPECT_EQ(total, info.total_memory);
    MOEK_EXPECT_ERROR(moek_memory_query(nullptr, &free, &total), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_memory_query(context_, nullptr, &total), kBad, "out_free: got null");
    MOEK_EXPECT_ERROR(moek_memory_query(context_, &free, nullptr), kBad, "out_total: got null");
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory
// ---------------------------------------------------------------------------------------------------------------------

TEST_P(OnDevice, MemoryHoldsWhatIsCopiedIntoIt) {
    for (size_t size : {1u, 63u, 1000u, 100003u}) {
        const Bytes content = counting(size);
        const Memory first(context_, content);
        const Memory second(context_, Bytes(size, 0));
        EXPECT_EQ(reinterpret_cast<uintptr_t>(static_cast<void*>(first)) % 64, 0u);
        EXPECT_EQ(first.read(), content);
        MOEK_EXPECT_OK(moek_memory_copy(context_, second, first, size, MOEK_COPY_KIND_DEVICE_TO_DEVICE, nullptr));
        EXPECT_EQ(second.read(), content);
    }
}

TEST_P(OnDevice, SetWritesEveryByteAndNoOther) {
    const Memory memory(context_, Bytes(10, 1));
    MOEK_EXPECT_OK(moek_memory_set(context_, memory.at(3), 255, 4, nullptr));
    EXPECT_EQ(memory.read(), (Bytes{1, 1, 1, 255, 255, 255, 255, 1, 1, 1}));
}

TEST_P(OnDevice, NoBytesNeedNoMemory) {
    void* memory = this;
    MOEK_EXPECT_OK(moek_memory_allocate(context_, 0, &memory));
    EXPECT_EQ(memory, nullptr);
    MOEK_EXPECT_OK(moek_memory_free(context_, nullptr));
    MOEK_EXPECT_OK(moek_memory_copy(context_, nullptr, nullptr, 0, MOEK_COPY_KIND_HOST_TO_DEVICE, nullptr));
    MOEK_EXPECT_OK(moek_memory_set(context_, nullptr, 0, 0, nullptr));
}

TEST_P(OnDevice, NeighboursMayBeCopied) {
    const Memory memory(context_, counting(20));
    const Bytes before = memory.read();
    MOEK_EXPECT_OK(moek_memory_copy(context_, memory.at(10), memory, 10, MOEK_COPY_KIND_DEVICE_TO_DEVICE, nullptr));
    EXPECT_EQ(memory.read(), [&] {
        Bytes expected(before.begin(), before.begin() + 10);
        expected.insert(expected.end(), before.begin(), before.begin() + 10);
        return expected;
    }());
}

TEST_P(OnDevice, MemoryArgumentsAreChecked) {
    const uint64_t too_much = uint64_t{1} << 63;
    const Memory memory(context_, counting(8));
    unsigned char host[8] = {};
    void* out = this;
    const int32_t kind = MOEK_COPY_KIND_HOST_TO_DEVICE;
    MOEK_EXPECT_ERROR(moek_memory_allocate(nullptr, 8, &out), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_memory_allocate(context_, 8, nullptr), kBad, "out_memory: got null");
    MOEK_EXPECT_ERROR(moek_memory_allocate(context_, too_much, &out), kBad, "bytes: got 9223372036854775808");
    EXPECT_EQ(out, nullptr);
    MOEK_EXPECT_ERROR(moek_memory_free(nullptr, memory), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_memory_copy(nullptr, memory, host, 8, kind, nullptr), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_memory_copy(context_, nullptr, host, 8, kind, nullptr), kBad, "destination: got null");
    MOEK_EXPECT_ERROR(moek_memory_copy(context_, memory, nullptr, 8, kind, nullptr), kBad, "source: got null");
    MOEK_EXPECT_ERROR(moek_memory_copy(context_, memory, host, too_much, kind, nullptr), kBad, "bytes: got");
    MOEK_EXPECT_ERROR(moek_memory_copy(context_, memory, host, 8, 3, nullptr), kBad, "kind: got 3");
    MOEK_EXPECT_ERROR(moek_memory_copy(context_, memory, host, 8, -1, nullptr), kBad, "kind: got -1");
    const int32_t within = MOEK_COPY_KIND_DEVICE_TO_DEVICE;
    MOEK_EXPECT_ERROR(moek_memory_copy(context_, memory, memory, 8, within, nullptr), kBad, "overlaps source");
    MOEK_EXPECT_ERROR(moek_memory_copy(context_, memory.at(1), memory, 2, within, nullptr), kBad, "overlaps source");
    MOEK_EXPECT_ERROR(moek_memory_copy(context_, memory, memory.at(1), 2, within, nullptr), kBad, "overlaps source");
    MOEK_EXPECT_ERROR(moek_memory_set(nullptr, memory, 0, 8, nullptr), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_memory_set(context_, nullptr, 0, 8, nullptr), kBad, "destination: got null");
    MOEK_EXPECT_ERROR(moek_memory_set(context_, memory, 256, 8, nullptr), kBad, "value: got 256");
    MOEK_EXPECT_ERROR(moek_memory_set(context_, memory, -1, 8, nullptr), kBad, "value: got -1");
    MOEK_EXPECT_ERROR(moek_memory_set(context_, memory, 0, too_much, nullptr), kBad, "bytes: got");
    EXPECT_EQ(memory.read(), counting(8));
}

// Address sanitizer ends the process instead of failing an allocation of this size.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_P(OnDevice, RunningOutOfMemoryIsAnError) {
    void* memory = this;
    EXPECT_EQ(moek_memory_allocate(context_, uint64_t{1} << 60, &memory), MOEK_STATUS_CODE_OUT_OF_MEMORY);
    EXPECT_FALSE(last_error().empty());
    EXPECT_EQ(memory, nullptr);
    // It is not one that stays.
    EXPECT_EQ(Memory(context_, counting(16)).read(), counting(16));
}
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Streams and events
// ---------------------------------------------------------------------------------------------------------------------

TEST_P(OnDevice, AStreamDoesItsWorkInOrder) {
    const Stream stream(context_);
    EXPECT_EQ(stream == nullptr, is_cpu());
    const Memory memory(context_, Bytes(4, 0));
    const Memory copy(context_, Bytes(4, 0));
    MOEK_EXPECT_OK(moek_memory_set(context_, memory, 1, 4, stream));
    MOEK_EXPECT_OK(moek_memory_copy(context_, copy, memory, 4, MOEK_COPY_KIND_DEVICE_TO_DEVICE, stream));
    MOEK_EXPECT_OK(moek_memory_set(context_, memory, 2, 4, stream));
    MOEK_EXPECT_OK(moek_stream_synchronize(context_, stream));
    EXPECT_EQ(copy.read(stream), Bytes(4, 1));
    EXPECT_EQ(memory.read(stream), Bytes(4, 2));
}

TEST_P(OnDevice, AStreamWaitsForAnotherOnesEvent) {
    const Stream producer(context_);
    const Stream consumer(context_);
    const Event ready(context_);
    const Memory memory(context_, Bytes(4, 0));
    const Memory copy(context_, Bytes(4, 0));
    MOEK_EXPECT_OK(moek_stream_wait_event(context_, consumer, ready));  // never recorded: no wait
    MOEK_EXPECT_OK(moek_memory_set(context_, memory, 9, 4, producer));
    MOEK_EXPECT_OK(moek_event_record(context_, ready, producer));
    MOEK_EXPECT_OK(moek_stream_wait_event(context_, consumer, ready));
    MOEK_EXPECT_OK(moek_memory_copy(context_, copy, memory, 4, MOEK_COPY_KIND_DEVICE_TO_DEVICE, consumer));
    EXPECT_EQ(copy.read(consumer), Bytes(4, 9));
}

TEST_P(OnDevice, StreamArgumentsAreChecked) {
    const Event event(context_);
    void* out = this;
    MOEK_EXPECT_ERROR(moek_stream_create(nullptr, &out), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_stream_create(context_, nullptr), kBad, "out_stream: got null");
    MOEK_EXPECT_ERROR(moek_stream_destroy(nullptr, nullptr), kBad, "context: got null");
    MOEK_EXPECT_OK(moek_stream_destroy(context_, nullptr));
    MOEK_EXPECT_ERROR(moek_stream_synchronize(nullptr, nullptr), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_stream_wait_event(nullptr, nullptr, event), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_stream_wait_event(context_, nullptr, nullptr), kBad, "event: got null");
}

TEST_P(OnDevice, EventsTellTheTimeBetweenThem) {
    const Stream stream(context_);
    const Event start(context_);
    const Event end(context_);
    const Memory memory(context_, Bytes(1 << 16, 0));
    MOEK_EXPECT_OK(moek_event_record(context_, start, stream));
    MOEK_EXPECT_OK(moek_memory_set(context_, memory, 1, 1 << 16, stream));
    MOEK_EXPECT_OK(moek_event_record(context_, end, stream));
    double forward = -1;
    double back = 1;
    MOEK_EXPECT_OK(moek_event_elapsed(context_, start, end, &forward));
    MOEK_EXPECT_OK(moek_event_elapsed(context_, end, start, &back));
    EXPECT_GE(forward, 0);
    EXPECT_LE(back, 0);
    MOEK_EXPECT_OK(moek_event_synchronize(context_, end));
    EXPECT_EQ(memory.read(), Bytes(1 << 16, 1));
    // Recording again replaces the time.
    MOEK_EXPECT_OK(moek_event_record(context_, start, stream));
    MOEK_EXPECT_OK(moek_event_elapsed(context_, start, end, &back));
    EXPECT_LE(back, 0);
}

TEST_P(OnDevice, EventArgumentsAreChecked) {
    const AnyContext other(GetParam());
    const Event event(context_);
    const Event fresh(context_);
    const Event foreign(other);
    MOEK_EXPECT_OK(moek_event_record(context_, event, nullptr));
    moek_event* out = event;
    double milliseconds = 77;
    MOEK_EXPECT_ERROR(moek_event_create(nullptr, &out), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_event_create(context_, nullptr), kBad, "out_event: got null");
    MOEK_EXPECT_ERROR(moek_event_destroy(nullptr, nullptr), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_event_destroy(context_, foreign), kBad, "event: got one of another context");
    MOEK_EXPECT_OK(moek_event_destroy(context_, nullptr));
    MOEK_EXPECT_ERROR(moek_event_record(nullptr, event, nullptr), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_event_record(context_, nullptr, nullptr), kBad, "event: got null");
    MOEK_EXPECT_ERROR(moek_event_record(context_, foreign, nullptr), kBad, "event: got one of another context");
    MOEK_EXPECT_ERROR(moek_event_synchronize(nullptr, event), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_event_synchronize(context_, nullptr), kBad, "event: got null");
    MOEK_EXPECT_OK(moek_event_synchronize(context_, fresh));
    MOEK_EXPECT_ERROR(moek_stream_wait_event(context_, nullptr, foreign), kBad, "event: got one of another context");
    MOEK_EXPECT_ERROR(moek_event_elapsed(nullptr, event, event, &milliseconds), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_event_elapsed(context_, nullptr, event, &milliseconds), kBad, "start: got null");
    MOEK_EXPECT_ERROR(moek_event_elapsed(context_, event, nullptr, &milliseconds), kBad, "end: got null");
    MOEK_EXPECT_ERROR(moek_event_elapsed(context_, event, event, nullptr), kBad, "out_milliseconds: got null");
    MOEK_EXPECT_ERROR(moek_event_elapsed(context_, foreign, event, &milliseconds), kBad, "start: got one of another");
    MOEK_EXPECT_ERROR(moek_event_elapsed(context_, event, foreign, &milliseconds), kBad, "end: got one of another");
    MOEK_EXPECT_ERROR(moek_event_elapsed(context_, fresh, event, &milliseconds), kBad, "start: got an event");
    MOEK_EXPECT_ERROR(moek_event_elapsed(context_, event, fresh, &milliseconds), kBad, "end: got an event");
    EXPECT_EQ(milliseconds, 77);
}

TEST(CpuStream, IsNullAndNothingElse) {
    const AnyContext context(kCpu);
    const Event event(context);
    unsigned char bytes[2] = {};
    int other = 0;
    MOEK_EXPECT_ERROR(moek_memory_copy(context, bytes, bytes + 1, 1, MOEK_COPY_KIND_HOST_TO_DEVICE, &other), kBad,
                      "expected null on the CPU");
    MOEK_EXPECT_ERROR(moek_memory_set(context, bytes, 1, 1, &other), kBad, "expected null on the CPU");
    MOEK_EXPECT_ERROR(moek_stream_destroy(context, &other), kBad, "expected null on the CPU");
    MOEK_EXPECT_ERROR(moek_stream_synchronize(context, &other), kBad, "expected null on the CPU");
    MOEK_EXPECT_ERROR(moek_stream_wait_event(context, &other, event), kBad, "expected null on the CPU");
    MOEK_EXPECT_ERROR(moek_event_record(context, event, &other), kBad, "expected null on the CPU");
    EXPECT_EQ(bytes[0], 0);
}

TEST(CpuEvent, MeasuresBySteadyClock) {
    const AnyContext context(kCpu);
    const Event start(context);
    const Event end(context);
    MOEK_EXPECT_OK(moek_event_record(context, start, nullptr));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    MOEK_EXPECT_OK(moek_event_record(context, end, nullptr));
    double milliseconds = 0;
    MOEK_EXPECT_OK(moek_event_elapsed(context, start, end, &milliseconds));
    EXPECT_GE(milliseconds, 2.0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Graphs
// ---------------------------------------------------------------------------------------------------------------------

TEST(CpuGraph, IsUnsupported) {
    const AnyContext context(kCpu);
    moek_graph* graph = reinterpret_cast<moek_graph*>(&graph);
    const auto unsupported = MOEK_STATUS_CODE_UNSUPPORTED;
    MOEK_EXPECT_ERROR(moek_graph_capture_begin(context, nullptr), unsupported, "graphs need a CUDA context");
    MOEK_EXPECT_ERROR(moek_graph_capture_end(context, nullptr, &graph), unsupported, "graphs need a CUDA context");
    EXPECT_EQ(graph, nullptr);
    MOEK_EXPECT_OK(moek_graph_destroy(context, nullptr));
}

TEST_P(OnDevice, GraphArgumentsAreChecked) {
    moek_graph* graph = nullptr;
    uint64_t count = 0;
    MOEK_EXPECT_ERROR(moek_graph_capture_begin(nullptr, nullptr), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_graph_capture_end(nullptr, nullptr, &graph), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_graph_capture_end(context_, nullptr, nullptr), kBad, "out_graph: got null");
    MOEK_EXPECT_ERROR(moek_graph_node_count(nullptr, nullptr, &count), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_graph_node_count(context_, nullptr, &count), kBad, "graph: got null");
    MOEK_EXPECT_ERROR(moek_graph_launch(nullptr, nullptr, nullptr), kBad, "context: got null");
    MOEK_EXPECT_ERROR(moek_graph_launch(context_, nullptr, nullptr), kBad, "graph: got null");
    MOEK_EXPECT_ERROR(moek_graph_destroy(nullptr, nullptr), kBad, "context: got null");
}

TEST_P(OnCuda, AGraphRunsWhatWasCapturedAtEachLaunchAndNotBefore) {
    const Stream stream(context_);
    const Memory memory(context_, Bytes(100, 0));
    const Memory copy(context_, Bytes(100, 0));
    const Graph graph(context_, stream, [&] {
        MOEK_EXPECT_OK(moek_memory_copy(context_, copy, memory, 100, MOEK_COPY_KIND_DEVICE_TO_DEVICE, stream));
        MOEK_EXPECT_OK(moek_memory_set(context_, memory, 8, 50, stream));
    });
    uint64_t count = 0;
    MOEK_EXPECT_OK(moek_graph_node_count(context_, graph, &count));
    EXPECT_EQ(count, 2u);
    EXPECT_EQ(memory.read(), Bytes(100, 0));
    for (int value : {3, 4}) {
        memory.write(Bytes(100, static_cast<unsigned char>(value)));
        MOEK_EXPECT_OK(moek_graph_launch(context_, graph, stream));
        MOEK_EXPECT_OK(moek_stream_synchronize(context_, stream));
        EXPECT_EQ(copy.read(), Bytes(100, static_cast<unsigned char>(value)));
        Bytes expected(50, 8);
        expected.resize(100, static_cast<unsigned char>(value));
        EXPECT_EQ(memory.read(), expected);
    }
}

TEST_P(OnCuda, AnEmptyGraphDoesNothing) {
    const Stream stream(context_);
    const Graph graph(context_, stream, [] {});
    uint64_t count = 5;
    MOEK_EXPECT_OK(moek_graph_node_count(context_, graph, &count));
    EXPECT_EQ(count, 0u);
    MOEK_EXPECT_OK(moek_graph_launch(context_, graph, nullptr));
    MOEK_EXPECT_OK(moek_stream_synchronize(context_, nullptr));
}

TEST_P(OnCuda, AnEventJoinsASecondStreamToTheCapture) {
    const Stream first(context_);
    const Stream second(context_);
    const Event fork(context_);
    const Event join(context_);
    const Memory a(context_, Bytes(10, 0));
    const Memory b(context_, Bytes(10, 0));
    const Graph graph(context_, first, [&] {
        MOEK_EXPECT_OK(moek_memory_set(context_, a, 1, 10, first));
        MOEK_EXPECT_OK(moek_event_record(context_, fork, first));
        MOEK_EXPECT_OK(moek_stream_wait_event(context_, second, fork));
        MOEK_EXPECT_OK(moek_memory_copy(context_, b, a, 10, MOEK_COPY_KIND_DEVICE_TO_DEVICE, second));
        MOEK_EXPECT_OK(moek_event_record(context_, join, second));
        MOEK_EXPECT_OK(moek_stream_wait_event(context_, first, join));
        MOEK_EXPECT_OK(moek_memory_set(context_, a, 2, 10, first));
    });
    EXPECT_EQ(b.read(), Bytes(10, 0));
    MOEK_EXPECT_OK(moek_graph_launch(context_, graph, first));
    EXPECT_EQ(a.read(first), Bytes(10, 2));
    EXPECT_EQ(b.read(first), Bytes(10, 1));
    // These events have been recorded, but in no time.
    double milliseconds = 0;
    MOEK_EXPECT_ERROR(moek_event_elapsed(context_, fork, join, &milliseconds), kBad,
                      "start: got an event without a time");
}

TEST_P(OnCuda, WhatWaitsIsRefusedDuringACaptureWithoutSpoilingIt) {
    const Stream stream(context_);
    const Memory memory(context_, Bytes(10, 0));
    unsigned char host[10] = {};
    const Graph other(context_, stream, [] {});
    const Graph graph(context_, stream, [&] {
        const std::string text = "stream: got one that is being captured";
        MOEK_EXPECT_ERROR(moek_memory_copy(context_, memory, host, 10, MOEK_COPY_KIND_HOST_TO_DEVICE, stream), kBad,
                          text);
        MOEK_EXPECT_ERROR(moek_memory_copy(context_, host, memory, 10, MOEK_COPY_KIND_DEVICE_TO_HOST, stream), kBad,
                          text);
        MOEK_EXPECT_ERROR(moek_stream_synchronize(context_, stream), kBad, text);
        MOEK_EXPECT_ERROR(moek_graph_capture_begin(context_, stream), kBad, text);
        MOEK_EXPECT_ERROR(moek_graph_launch(context_, other, stream), kBad, text);
        MOEK_EXPECT_OK(moek_memory_set(context_, memory, 6, 10, stream));
    });
    MOEK_EXPECT_OK(moek_graph_launch(context_, graph, stream));
    EXPECT_EQ(memory.read(stream), Bytes(10, 6));
}

TEST_P(OnCuda, AllocatingDuringACaptureIsAnErrorThatTheStreamSurvives) {
    const Stream stream(context_);
    MOEK_EXPECT_OK(moek_graph_capture_begin(context_, stream));
    void* memory = this;
    EXPECT_EQ(moek_memory_allocate(context_, 16, &memory), MOEK_STATUS_CODE_DEVICE);
    EXPECT_NE(last_error().find("being captured into a graph"), std::string::npos) << last_error();
    EXPECT_EQ(memory, nullptr);
    moek_graph* graph = nullptr;
    // Whether the capture can still become a graph is CUDA's to say; it must be over in any case.
    const moek_status ended = moek_graph_capture_end(context_, stream, &graph);
    EXPECT_TRUE(ended == kOk || ended == MOEK_STATUS_CODE_DEVICE) << last_error();
    EXPECT_EQ(graph != nullptr, ended == kOk);
    MOEK_EXPECT_OK(moek_graph_destroy(context_, graph));
    MOEK_EXPECT_OK(moek_stream_synchronize(context_, stream));
    const Memory works(context_, Bytes(4, 0));
    const Graph next(context_, stream, [&] { MOEK_EXPECT_OK(moek_memory_set(context_, works, 1, 4, stream)); });
    MOEK_EXPECT_OK(moek_graph_launch(context_, next, stream));
    EXPECT_EQ(works.read(stream), Bytes(4, 1));
}

TEST_P(OnCuda, ACaptureNeedsAStreamOfItsOwn) {
    const AnyContext other(GetParam());
    const Stream stream(context_);
    moek_graph* graph = nullptr;
    MOEK_EXPECT_ERROR(moek_graph_capture_begin(context_, nullptr), kBad, "stream: got null");
    MOEK_EXPECT_ERROR(moek_graph_capture_end(context_, nullptr, &graph), kBad, "stream: got null");
    MOEK_EXPECT_ERROR(moek_graph_capture_end(context_, stream, &graph), kBad, "stream: got one that is not captured");
    const Graph empty(context_, stream, [] {});
    uint64_t count = 0;
    MOEK_EXPECT_ERROR(moek_graph_node_count(other, empty, &count), kBad, "graph: got one of another context");
    MOEK_EXPECT_ERROR(moek_graph_node_count(context_, empty, nullptr), kBad, "out_count: got null");
    MOEK_EXPECT_ERROR(moek_graph_launch(other, empty, nullptr), kBad, "graph: got one of another context");
    MOEK_EXPECT_ERROR(moek_graph_destroy(other, empty), kBad, "graph: got one of another context");
}

TEST_P(OnCuda, AnotherThreadMayAllocateDuringACapture) {
    const Stream stream(context_);
    const Memory memory(context_, Bytes(10, 0));
    const Graph graph(context_, stream, [&] {
        std::thread([&] { EXPECT_EQ(Memory(context_, counting(10)).read(), counting(10)); }).join();
        MOEK_EXPECT_OK(moek_memory_set(context_, memory, 5, 10, stream));
    });
    MOEK_EXPECT_OK(moek_graph_launch(context_, graph, stream));
    EXPECT_EQ(memory.read(stream), Bytes(10, 5));
}

}  // namespace
}  // namespace moek::test
