// The main loop of core_merge's kernels: for one tile of tokens and ranks, the products S_e = L C_e (or L C_e^T) of the
// same left operand with every core, one core after the other through one pipeline.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cuda/common/cp_async.hpp"
#include "cuda/core_merge/core_source.hpp"
#include "cuda/gemm/product.hpp"

namespace moek::cuda {

// body(std::integral_constant<int, 32 | 64>), the widths of a plan.
template <class Body>
void with_core_columns(int columns, Body&& body) {
    if (columns == 32) {
        body(std::integral_constant<int, 32>());
    } else {
        body(std::integral_constant<int, 64>());
    }
}

// Where the pipeline stands.
struct CoreCursor {
    int core = 0;
    int stage = 0;  // of a core that is larger than a stage

    template <class Stored>
    __device__ __forceinline__ void advance(const Cores<Stored>& cores) {
        if (++stage < cores.stages_per_core) return;
        stage = 0;
        core += cores.cores_per_stage;
    }
};

// For every core in order: consumer.begin(e), then consumer.end(e, S_e) with the results from (row, column) on. The left
// operand's lines are tokens with r elements. `shared` holds P::kSharedBytes; it is free for other uses, by all threads,
// before and after.
template <class P, class LeftSource, class Stored, class Consumer>
__device__ __forceinline__ void for_each_core(const LeftSource& left, int64_t row, const Cores<Stored>& cores,
                                              int column, unsigned char* shared, Consumer& consumer) {
    using Operand = typename P::Operand;
    constexpr Along kAlong = P::Right::kAlong;
    const int slot_shift = 31 - __clz(cores.slot_depth);
    const auto load_stage = [&](int stage, const CoreCursor& at) {
        unsigned char* const place = shared + stage * P::kStageBytes;
        const int step = at.stage * P::kBlockDepth;
        const CoreStage<Stored, kAlong> right = {cores, at.core, step, slot_shift};
        load_tile<Operand, typename P::Left, kProductThreads>(place, left, row, step);
        load_tile<Operand, typename P::Right, kProductThreads>(
            place + P::Left::kBytes, right, kAlong == Along::kRows ? 0 : column, kAlong == Along::kRows ? column : 0);
    };

    CoreCursor next;
#pragma unroll 1
    for (int stage = 0; stage < kStages - 1; ++stage) {
        if (next.core < cores.E) load_stage(stage, next);
        next.advance(cores);
        cp_async_commit();
    }
    typename P::Sums sums;
    sums.clear();
    int stage = 0;
    for (CoreCursor at; at.core < cores.E; at.advance(cores)) {
        // The oldest stage has arrived, for everyone; and everyone is done with the stage that is filled next.
        cp_async_wait<kStages - 2>();
        __syncthreads();
        if (next.core < cores.E) load_stage(stage == 0 ? kStages - 1 : stage - 1, next);
        next.advance(cores);
        cp_async_commit();

        const unsigned char* const place = shared + stage * P::kStageBytes;
        stage = stage == kStages - 1 ? 0 : stage + 1;
        // Steps that exist, in whole steps of the maths.
        const int rest = min(cores.r - at.stage * P::kBlockDepth, cores.slot_depth);
        const int steps = (rest + P::Sums::kStep - 1) / P::Sums::kStep * P::Sums::kStep;
        const int last = min(at.core + cores.cores_per_stage, cores.E);
#pragma unroll 1
        for (int core = at.core; core < last; ++core) {
            if (at.stage == 0) consumer.begin(core);
            sums.template multiply_part<Operand>(place, place + P::Left::kBytes, (core - at.core) * cores.slot_depth,
                                                 steps);
            if (at.stage == cores.stages_per_core - 1) {
                consumer.end(core, sums);
                sums.clear();
            }
        }
    }
    cp_async_wait<0>();
    __syncthreads();
}

}  // namespace moek::cuda
