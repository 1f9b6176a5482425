// The cores C [E, r, r] as the right operand of a product that goes through all of them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "core/core_merge/cuda_plan.hpp"
#include "cuda/common/vector_access.hpp"
#include "cuda/gemm/chunk.hpp"
#include "cuda/gemm/operand_tile.hpp"

namespace moek::cuda {

template <class Stored>
struct Cores {
    const Stored* data;  // [E, r, r]
    int32_t r;
    int32_t E;
    int32_t aligned;  // all rows, to 16 bytes
    int32_t slot_depth;
    int32_t cores_per_stage;
    int32_t stages_per_core;
};

template <class Stored>
Cores<Stored> make_cores(const void* data, int64_t r, int64_t E, const CudaCorePlan& plan) {
    Cores<Stored> cores = {};
    cores.data = static_cast<const Stored*>(data);
    cores.r = static_cast<int32_t>(r);
    cores.E = static_cast<int32_t>(E);
    cores.aligned = rows_are_aligned(cores.data, r);
    cores.slot_depth = plan.slot_depth;
    cores.cores_per_stage = plan.cores_per_stage;
    cores.stages_per_core = static_cast<int32_t>(plan.stages_per_core);
    return cores;
}

// One stage of it, see source.hpp: cores from first_core on in slots of slot_depth steps, or of one core the steps from
// first_step on. With Along::kRows a step is a row of its core (u C), with Along::kDepth a column (dv C^T). What lies
// outside a core is 0, in its slot too.
template <class Stored, Along kAlong>
struct CoreStage {
    const Cores<Stored>& cores;
    int first_core;
    int first_step;
    int slot_shift;

    template <class Operand>
    __device__ __forceinline__ bool is_async() const {
        return std::is_same_v<Stored, Operand> && cores.aligned != 0;
    }

    template <class Operand>
    __device__ __forceinline__ void copy_async(unsigned char* target, int64_t line, int element) const {
        if constexpr (std::is_same_v<Stored, Operand>) {
            const Place place = place_of(static_cast<int>(line), element);
            copy_chunk_async<Operand>(target, place.source, place.valid, cores.data);
        }
    }

    template <class Operand>
    __device__ __forceinline__ void copy(unsigned char* target, int64_t line, int element) const {
        const Place place = place_of(static_cast<int>(line), element);
        copy_chunk<Operand>(target, place.source, place.valid, cores.aligned != 0);
    }

  private:
    struct Place {
        const Stored* source;
        int valid;  // elements from there to the end of the core's row
    };

    // Slots are whole chunks.
    __device__ __forceinline__ Place place_of(int line, int element) const {
        const int step = kAlong == Along::kRows ? line : element;
        const int core = first_core + (step >> slot_shift);
        const int own_step = first_step + (step & ((1 << slot_shift) - 1));
        const int row = kAlong == Along::kRows ? own_step : line;
        const int column = kAlong == Along::kRows ? element : own_step;
        const int64_t core_row = static_cast<int64_t>(core) * cores.r + row;
        return {cores.data + core_row * cores.r + column, core < cores.E && row < cores.r ? cores.r - column : 0};
    }
};

}  // namespace moek::cuda
