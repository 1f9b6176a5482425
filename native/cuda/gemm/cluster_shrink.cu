#include "cuda/gemm/cluster_shrink.hpp"

namespace moek::cuda {

bool run_cluster_shrink(const Shrink& shrink, cudaStream_t stream) {
    return shrink.types.token_dtype == MOEK_DTYPE_BF16 ? launch_cluster_shrink_bf16(shrink, stream)
                                                       : launch_cluster_shrink_f16(shrink, stream);
}

}  // namespace moek::cuda
