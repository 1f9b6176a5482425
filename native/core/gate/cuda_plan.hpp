// How the op `gate` is laid out on a GPU: pure functions of the shape and the number of multiprocessors.
#pragma once

#include <cstdint>
#include <string>

namespace moek {

// The threads that share a row, each with `per_thread` neighbouring elements of it in registers. Depends on E alone, and
// so does the order in which a row is summed: a row's bits depend neither on T nor on the GPU's size.
struct CudaGateRowForm {
    int threads;     // 4, 8, 16 or 32 lanes of a warp, or a whole block of kCudaGateBlockThreads
    int per_thread;  // 1, 2, 4, 8 or 16

    bool operator==(const CudaGateRowForm&) const = default;
};

inline constexpr int kCudaGateBlockThreads = 256;

// The most elements of a row that a warp takes by itself.
inline constexpr int kCudaGateWarpElements = 512;

CudaGateRowForm cuda_gate_row_form(int64_t E);

// What becomes of the ids that a block counted.
enum class CudaGateCounts {
    kNone,   // nobody asked
    kStore,  // there is one block: its histogram is the result
    kAdd,    // integer atomics onto `counts`
};

struct CudaGatePlan {
    CudaGateRowForm form;
    int block_threads;
    int blocks;         // 0 for T = 0; each takes every blocks-th group of block_threads / form.threads rows
    bool clear_counts;  // a memset goes ahead of the kernel
    CudaGateCounts counts;

    bool operator==(const CudaGatePlan&) const = default;
};

CudaGatePlan plan_cuda_gate_forward(int64_t T, int64_t E, bool wants_counts, bool accumulates_counts, int sm_count);
CudaGatePlan plan_cuda_gate_backward(int64_t T, int64_t E, int sm_count);

std::string to_string(const CudaGatePlan& plan);

}  // namespace moek
