#include "cuda/gemm/cluster_shrink.hpp"
#include "cuda/gemm/cluster_shrink_kernel.cuh"

namespace moek::cuda {

bool launch_cluster_shrink_f16(const Shrink& shrink, cudaStream_t stream) {
    return launch_cluster_shrink<float16>(shrink, stream);
}

}  // namespace moek::cuda
