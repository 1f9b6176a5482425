// Tensor maps: what the driver accepts, in a form of the emulation's own.
#include <cuda.h>

#include <cstring>

#include "emulation/execution/options.hpp"
#include "emulation/runtime/api.hpp"
#include "emulation/runtime/error.hpp"
#include "emulation/tensor_view.hpp"

namespace moek::emulation {
namespace {

constexpr cuuint64_t kMark = 0x70616D726F736E74u;

struct Contents {
    cuuint64_t mark;
    TensorView view;
};
static_assert(sizeof(Contents) <= sizeof(CUtensorMap));

bool is_aligned(const void* address, uintptr_t alignment) {
    return reinterpret_cast<uintptr_t>(address) % alignment == 0;
}

}  // namespace

bool read_tensor_map(const void* map, TensorView& view) {
    // Word by word, and not by memcpy: ThreadSanitizer would see an access of the thread that happens to run.
    Contents contents;
    const cuuint64_t* const from = static_cast<const cuuint64_t*>(map);
    cuuint64_t words[sizeof(Contents) / sizeof(cuuint64_t)];
    static_assert(sizeof(words) == sizeof(Contents));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); ++i) words[i] = from[i];
    __builtin_memcpy(&contents, words, sizeof(contents));
    view = contents.view;
    return contents.mark == kMark;
}

}  // namespace moek::emulation

using namespace moek::emulation;

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* base,
                                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* element_strides, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                CUtensorMapFloatOOBfill fill) {
    // What nobody here uses.
    if (rank != 2 || type > CU_TENSOR_MAP_DATA_TYPE_UINT32 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
        fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE || element_strides[0] != 1 || element_strides[1] != 1) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    const cuuint64_t most_elements = cuuint64_t{1} << 32;
    const cuuint64_t most_stride = cuuint64_t{1} << 40;
    const cuuint32_t most_box = 256;
    const cuuint32_t element_bytes = 1u << type;
    const cuuint32_t swizzle_bytes = 16u << swizzle;
    for (int i = 0; i < 2; ++i) {
        if (sizes[i] == 0 || sizes[i] > most_elements || box[i] == 0 || box[i] > most_box) {
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    const cuuint32_t line_bytes = box[0] * element_bytes;
    if (!is_aligned(map, 64) || !is_aligned(base, 16) || base == nullptr || strides[0] % 16 != 0 ||
        strides[0] >= most_stride || line_bytes % 16 != 0 || swizzle > CU_TENSOR_MAP_SWIZZLE_128B ||
        (swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && line_bytes > swizzle_bytes) ||
        promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    const Contents contents = {kMark,
                               {static_cast<const unsigned char*>(base), sizes[0], sizes[1], strides[0], element_bytes,
                                box[0], box[1], swizzle_bytes}};
    std::memset(map, 0, sizeof(*map));
    std::memcpy(map, &contents, sizeof(contents));
    return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** function, unsigned long long,
                                    cudaDriverEntryPointQueryResult* status) {
    // A driver that cannot make tensor maps, when the environment asks for one.
    const bool has_maps = environment_number("MOEK_EMULATION_TENSOR_MAPS", 1, 0, 1) != 0;
    const bool found = has_maps && std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
    *function = found ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
    if (status != nullptr) *status = found ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}
