#include "cuda/common/tensor_map.hpp"

namespace moek::cuda {

TensorMapEncoder find_tensor_map_encoder() {
    constexpr const char* kName = "cuTensorMapEncodeTiled";
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    // The older form is gone from CUDA 13, the newer came with 12.5.
#if CUDART_VERSION >= 12050
    constexpr unsigned kSince = 12000;
    const cudaError_t error = cudaGetDriverEntryPointByVersion(kName, &function, kSince, cudaEnableDefault, &found);
#else
    const cudaError_t error = cudaGetDriverEntryPoint(kName, &function, cudaEnableDefault, &found);
#endif
    if (error != cudaSuccess || found != cudaDriverEntryPointSuccess) {
        cudaGetLastError();  // not what the next call shall report
        return nullptr;
    }
    return reinterpret_cast<TensorMapEncoder>(function);
}

bool make_tensor_map(TensorMapEncoder encoder, const TensorMapShape& shape, CUtensorMap& map) {
    const cuuint64_t sizes[] = {static_cast<cuuint64_t>(shape.elements), static_cast<cuuint64_t>(shape.lines)};
    const cuuint64_t strides[] = {static_cast<cuuint64_t>(shape.stride) * 2};
    const cuuint32_t box[] = {kBoxElements, static_cast<cuuint32_t>(shape.box_lines)};
    const cuuint32_t steps[] = {1, 1};
    // Elements are moved, not looked at: one type serves both 16-bit formats.
    return encoder(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, const_cast<void*>(shape.data), sizes, strides, box, steps,
                   CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace moek::cuda
