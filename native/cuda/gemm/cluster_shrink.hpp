// Shrink in clusters that share the weights, for 16-bit operands on GPUs of compute capability 9.0.
#pragma once

#include "cuda/gemm/shrink.hpp"

namespace moek::cuda {

// False when tensor copies cannot bring the operands as they are (converted weights, dropout, lines at odd addresses, two weight
// matrices that meet within eight lines, columns as lines that are longer than 128 bytes): nothing has been launched then. The
// results are those of shrink_kernel, bit for bit.
bool run_cluster_shrink(const Shrink& shrink, cudaStream_t stream);

bool launch_cluster_shrink_bf16(const Shrink& shrink, cudaStream_t stream);
bool launch_cluster_shrink_f16(const Shrink& shrink, cudaStream_t stream);

}  // namespace moek::cuda
