// Asynchronous copies of a tensor's boxes into shared memory (TMA, sm_90): one thread asks for lines x elements of a matrix at
// once. What lies outside of the matrix arrives as zeros. The map (tensor_map.hpp) tells where the matrix is, how large a box,
// and in which order its chunks lie in shared memory; it is a kernel's __grid_constant__ parameter.
//
// The whole box counts at an mbarrier, whose wait shows the data. The target is aligned to 1024 bytes.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/shared_memory.hpp"

#if !defined(__CUDACC__)
#include "emulation/tensor_copy.hpp"
#endif

namespace moek::cuda {

// The box that starts at element `element` of line `line`, both of which may lie outside.
__device__ __forceinline__ void tensor_copy(void* target, const CUtensorMap& map, int32_t element, int32_t line,
                                            uint64_t* barrier) {
#if defined(__CUDACC__)
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
        "[%4];" ::"r"(shared_address(target)),
        "l"(&map), "r"(element), "r"(line), "r"(shared_address(barrier))
        : "memory");
#else
    emulation::tensor_copy(target, &map, element, line, barrier, 0);
#endif
}

// The same box for every block of the cluster whose bit is set in `blocks`: it is read once. In each block the target and the
// barrier, which counts there, have the places that they have in this one.
__device__ __forceinline__ void tensor_copy_multicast(void* target, const CUtensorMap& map, int32_t element,
                                                      int32_t line, uint64_t* barrier, uint16_t blocks) {
#if defined(__CUDACC__)
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(target)),
        "l"(&map), "r"(element), "r"(line), "r"(shared_address(barrier)), "h"(blocks)
        : "memory");
#else
    emulation::tensor_copy(target, &map, element, line, barrier, blocks);
#endif
}

}  // namespace moek::cuda
