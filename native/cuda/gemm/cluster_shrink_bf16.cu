#include "cuda/gemm/cluster_shrink.hpp"
#include "cuda/gemm/cluster_shrink_kernel.cuh"

namespace moek::cuda {

bool launch_cluster_shrink_bf16(const Shrink& shrink, cudaStream_t stream) {
    return launch_cluster_shrink<bfloat16>(shrink, stream);
}

}  // namespace moek::cuda
