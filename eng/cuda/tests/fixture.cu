// Kernels for the tests of eng/cuda: one with tensor cores and asynchronous copies, one that needs local memory.
#include <cuda_bf16.h>
#include <cuda_pipeline.h>
#include <mma.h>

namespace moek::cuda {
namespace {

template <class T, int kRows, bool kAdd>
__global__ void rows(const T* in, float* out, int shift) {
    __shared__ float kept[kRows];
    kept[threadIdx.x % kRows] = static_cast<float>(in[threadIdx.x]);
    __syncthreads();
    const float value = kept[(threadIdx.x + shift) % kRows];
    out[threadIdx.x] = kAdd ? out[threadIdx.x] + value : value;
}

}  // namespace

__global__ void product(const __nv_bfloat16* a, const __nv_bfloat16* b, float* out) {
    using namespace nvcuda::wmma;
    __shared__ __align__(16) __nv_bfloat16 tile[256];
    __pipeline_memcpy_async(tile + 8 * threadIdx.x, a + 8 * threadIdx.x, 16);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();
    fragment<matrix_a, 16, 16, 16, __nv_bfloat16, row_major> left;
    fragment<matrix_b, 16, 16, 16, __nv_bfloat16, col_major> right;
    fragment<accumulator, 16, 16, 16, float> sum;
    fill_fragment(sum, 0.0F);
    load_matrix_sync(left, tile, 16);
    load_matrix_sync(right, b, 16);
    mma_sync(sum, left, right, sum);
    store_matrix_sync(out, sum, 16, mem_row_major);
}

// An array indexed at run time lives in local memory.
__global__ void local_memory(const float* in, float* out, int last, int which) {
    float values[64];
    for (int i = 0; i < last; ++i) values[i] = in[i];
    out[threadIdx.x] = values[which];
}

void use(const float* f32, const __nv_bfloat16* bf16, float* out) {
    rows<float, 64, false><<<1, 32>>>(f32, out, 1);
    rows<__nv_bfloat16, 32, true><<<1, 32>>>(bf16, out, 1);
}

}  // namespace moek::cuda
