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

// Launches `kernel` and throws when the launch itself fails. What the kernel does wrong shows at a later call.
template <class... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            std::type_identity_t<Parameters>... arguments) {
    if (shared_bytes > kDefaultSharedBytes) {
        check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shared_bytes)),
              "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
    }
#if defined(__CUDACC__)
    // One element more than there are arguments: a kernel may have none.
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))..., nullptr};
    check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, pointers, shared_bytes, stream),
          "cudaLaunchKernel");
#else
    check(emulation::launch(kernel, grid, block, shared_bytes, stream, arguments...), "cudaLaunchKernel");
#endif
}

}  // namespace moek::cuda
