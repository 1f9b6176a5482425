// Launching a kernel: cudaLaunchKernel, with the arguments in the form that C++ has them.
#pragma once

#include <cstddef>
#include <functional>
#include <type_traits>

#include "emulation/language/vector_types.hpp"
#include "emulation/runtime/types.hpp"

namespace moek::emulation {

// Runs the kernel, or records it when `stream` is being captured. `body` calls it with its arguments.
cudaError_t launch_kernel(const void* kernel, dim3 grid, dim3 block, unsigned cluster, size_t shared_bytes,
                          cudaStream_t stream, std::function<void()> body);

// In clusters of `cluster` neighbouring blocks along x.
template <class... Parameters>
cudaError_t launch_clusters(void (*kernel)(Parameters...), dim3 grid, dim3 block, unsigned cluster, size_t shared_bytes,
                            cudaStream_t stream, std::type_identity_t<Parameters>... arguments) {
    static_assert((std::is_trivially_copyable_v<Parameters> && ...), "kernel arguments are copied byte by byte");
    return launch_kernel(reinterpret_cast<const void*>(kernel), grid, block, cluster, shared_bytes, stream,
                         [=] { kernel(arguments...); });
}

template <class... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   std::type_identity_t<Parameters>... arguments) {
    return emulation::launch_clusters(kernel, grid, block, 1, shared_bytes, stream, arguments...);
}

}  // namespace moek::emulation
