// Launching a kernel from host code.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <type_traits>

#include "cuda/common/error.hpp"

#if !defined(__CUDACC__)
#include "emulation/launch.hpp"
#endif

namespace moek::cuda {

// What a kernel may use without asking first.
inline constexpr size_t kDefaultSharedBytes = 48 * 1024;

// Lets `kernel` use so much.
inline void allow_shared_bytes(const void* kernel, size_t shared_bytes) {
    if (shared_bytes <= kDefaultSharedBytes) return;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
          "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
}

// Launches `kernel` and throws when the launch itself fails. What the kernel does wrong shows at a later call.
template <class... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            std::type_identity_t<Parameters>... arguments) {
    allow_shared_bytes(reinterpret_cast<const void*>(kernel), shared_bytes);
#if defined(__CUDACC__)
    // One element more than there are arguments: a kernel may have none.
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))..., nullptr};
    check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, pointers, shared_bytes, stream),
          "cudaLaunchKernel");
#else
    check(emulation::launch(kernel, grid, block, shared_bytes, stream, arguments...), "cudaLaunchKernel");
#endif
}

// The same in clusters of `cluster` neighbouring blocks along the grid's x, which is a multiple of it.
template <class... Parameters>
void launch_clusters(void (*kernel)(Parameters...), dim3 grid, dim3 block, unsigned cluster, size_t shared_bytes,
                     cudaStream_t stream, std::type_identity_t<Parameters>... arguments) {
    allow_shared_bytes(reinterpret_cast<const void*>(kernel), shared_bytes);
#if defined(__CUDACC__)
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {cluster, 1, 1};
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))..., nullptr};
    check(cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), pointers), "cudaLaunchKernelExC");
#else
    check(emulation::launch_clusters(kernel, grid, block, cluster, shared_bytes, stream, arguments...),
          "cudaLaunchKernelExC");
#endif
}

}  // namespace moek::cuda
