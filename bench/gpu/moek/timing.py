"""Times work on a GPU: medians over batches that rotate through more data than its L2 cache holds.

Two ways, both with events on the stream. `eager` times batches of calls as a program makes them, its own overhead included
where the GPU waits for it. `graph` times replays of a CUDA graph of the same calls: what the GPU itself needs. On a CPU
(to try the harness) there is only the wall clock.
"""

import dataclasses
import statistics
import time

import torch

# A batch has at least this many calls, so that the events' own resolution and a graph's launch do not show.
LEAST_CALLS = 20
LEAST_BATCHES = 11
# Of measuring one thing one way, after its warm-up.
SECONDS = 0.06


@dataclasses.dataclass(frozen=True)
class Sample:
    """Microseconds per call over batches: the median, and what a tenth of the batches stay below and above."""

    median: float
    low: float
    high: float
    batches: int

    @staticmethod
    def of(microseconds):
        ordered = sorted(microseconds)
        last = len(ordered) - 1
        return Sample(statistics.median(ordered), ordered[round(last * 0.1)], ordered[round(last * 0.9)], len(ordered))


class GpuTimer:
    ways = ("graph", "eager")

    def __init__(self):
        self._stream = torch.cuda.Stream()

    def measure(self, way, calls):
        """A Sample of a list of functions, each of which enqueues the work once on its own data."""
        calls = calls * -(-LEAST_CALLS // len(calls))
        # What was prepared on another stream is ready.
        torch.cuda.synchronize()
        with torch.cuda.stream(self._stream):
            # Module loads, handles, compilation and the allocator's growth are over after this.
            for call in calls:
                call()
        self._stream.synchronize()
        if way == "eager":
            return self._batches(lambda: [call() for call in calls], len(calls))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            for call in calls:
                call()
        return self._batches(graph.replay, len(calls))

    def _batches(self, batch, calls):
        with torch.cuda.stream(self._stream):
            batch()
            first = self._timed([batch])[0]
            count = max(LEAST_BATCHES, min(200, int(SECONDS / max(first, 1e-6))))
            return Sample.of([seconds / calls * 1e6 for seconds in self._timed([batch] * count)])

    def _timed(self, batches):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(len(batches) + 1)]
        events[0].record()
        for batch, event in zip(batches, events[1:]):
            batch()
            event.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) / 1e3 for start, end in zip(events, events[1:])]


class HostTimer:
    ways = ("eager",)

    def measure(self, way, calls):
        for call in calls:
            call()
        samples = []
        for _ in range(3):
            began = time.perf_counter()
            for call in calls:
                call()
            samples.append((time.perf_counter() - began) / len(calls) * 1e6)
        return Sample.of(samples)


def rotation(bytes_per_call, cache_bytes, budget_bytes):
    """How many sets of tensors exceed the cache threefold, within the memory there is; at least 2, and no more than 256."""
    wanted = -(-3 * cache_bytes // bytes_per_call)
    return max(2, min(wanted, 256, budget_bytes // bytes_per_call))
