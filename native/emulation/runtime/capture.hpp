// Streams, and their capture into graphs.
//
// Work runs at once, on the calling thread, unless its stream is being captured: then it is recorded. A stream that
// waits for an event of a captured one joins the capture; the order in which work was recorded is one that respects
// all such waits, and a graph replays in it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "emulation/runtime/types.hpp"

namespace moek::emulation {

using Work = std::function<cudaError_t()>;

struct Capture {
    cudaStream_t origin;
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    bool invalidated = false;
    std::vector<Work> nodes;
};

}  // namespace moek::emulation

struct CUstream_st {
    bool blocking;  // waits for the legacy default stream, and makes it wait
    std::shared_ptr<moek::emulation::Capture> capture;
    // In a capture that began in another stream: whether nobody has waited for its last work yet.
    bool unjoined = false;
    uint64_t recorded = 0;  // pieces of work
};

struct CUgraph_st {
    std::vector<moek::emulation::Work> nodes;
};

struct CUgraphExec_st {
    std::vector<moek::emulation::Work> nodes;
};

namespace moek::emulation {

// Runs the work, or records it. Returns what the work returned, or why the stream cannot take it.
cudaError_t submit(cudaStream_t stream, Work work);

enum class ForbiddenBy {
    kUnsafeCall,  // captures in global mode, and those of this thread that are not relaxed
    kAnyCapture,
};

// For calls that must not be made during a capture: invalidates those that forbid it and says so.
cudaError_t forbid_during_capture(ForbiddenBy which);

// The same for a call that waits for one stream.
cudaError_t forbid_while_capturing(cudaStream_t stream);

// What an event remembers of the stream in which it was recorded.
struct RecordedIn {
    std::shared_ptr<Capture> capture;
    cudaStream_t stream = nullptr;
    uint64_t recorded = 0;
};
cudaError_t record_event(cudaStream_t stream, RecordedIn& out);
cudaError_t wait_for(cudaStream_t stream, const RecordedIn& event);

}  // namespace moek::emulation
