// Dropout's mask [T, d], bit for bit what moek_dropout_args states (cuda/common/philox.hpp).
//
// A thread runs one Philox block, which covers four neighbouring elements of the dense matrix, and writes those of them that
// are in its row; a block that covers the end of one row and the start of the next is run for both. Every element is
// written once, from its index alone: the bits depend on neither the grid nor the GPU. The only bytes that move are the
// mask's own, 8 or 16 at a time where rows allow it; the ten rounds, some sixty integer instructions for four elements,
// take about as long as the store does on a large GPU.
#include "core/dropout/cuda_plan.hpp"
#include "core/dtype.hpp"
#include "cuda/common/element.hpp"
#include "cuda/common/launch.hpp"
#include "cuda/common/philox.hpp"
#include "cuda/dropout/dropout.hpp"

namespace moek::cuda {
namespace {

struct Mask {
    Dropout dropout;
    int64_t T;
    int64_t d;
    int64_t stride;
    bool aligned;  // every row starts at a multiple of four elements, in the matrix and in memory
    int columns;   // Philox blocks of a row that a block of threads takes at a time
    void* data;
};

template <class T>
struct alignas(4 * sizeof(T)) Four {
    T element[4];
};

template <class T>
__global__ void __launch_bounds__(256) dropout_mask_kernel(Mask call) {
    const int column = static_cast<int>(threadIdx.x) % call.columns;
    const int rows = static_cast<int>(blockDim.x) / call.columns;
    const int64_t column_step = int64_t{gridDim.y} * call.columns;
    const int64_t row_step = int64_t{gridDim.x} * rows;
    for (int64_t row = int64_t{blockIdx.x} * rows + static_cast<int>(threadIdx.x) / call.columns; row < call.T;
         row += row_step) {
        const int64_t start = row * call.d;
        T* const target = static_cast<T*>(call.data) + row * call.stride;
        const int64_t last_block = (start + call.d - 1) / 4;
        for (int64_t block = start / 4 + int64_t{blockIdx.y} * call.columns + column; block <= last_block;
             block += column_step) {
            const float4 factors = dropout_factors(call.dropout, static_cast<uint64_t>(block));
            const Four<T> four = {{from_float<T>(factors.x), from_float<T>(factors.y), from_float<T>(factors.z),
                                   from_float<T>(factors.w)}};
            const int64_t c = block * 4 - start;  // the column of the first of the four, or negative
            if (call.aligned) {
                *reinterpret_cast<Four<T>*>(target + c) = four;
                continue;
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                if (c + i >= 0 && c + i < call.d) target[c + i] = four.element[i];
            }
        }
    }
}

void run(const Device& device, const moek_dropout_args& args, cudaStream_t stream) {
    if (args.T == 0) return;
    const CudaDropoutPlan plan = plan_cuda_dropout(args.T, args.d, device.sm_count);
    const size_t four_bytes = 4 * dtype_size(args.mask_dtype);
    Mask call = {};
    call.dropout = make_dropout(args.p, args.seed, args.offset, args.stream);
    call.T = args.T;
    call.d = args.d;
    call.stride = args.mask_stride;
    call.aligned =
        args.d % 4 == 0 && args.mask_stride % 4 == 0 && reinterpret_cast<uintptr_t>(args.mask) % four_bytes == 0;
    call.columns = plan.columns;
    call.data = args.mask;
    const dim3 grid(static_cast<unsigned>(plan.grid_rows), static_cast<unsigned>(plan.grid_columns));
    const dim3 block(static_cast<unsigned>(plan.columns * plan.rows));
    switch (args.mask_dtype) {
        case MOEK_DTYPE_F32:
            return launch(dropout_mask_kernel<float>, grid, block, 0, stream, call);
        case MOEK_DTYPE_BF16:
            return launch(dropout_mask_kernel<bfloat16>, grid, block, 0, stream, call);
        default:
            return launch(dropout_mask_kernel<float16>, grid, block, 0, stream, call);
    }
}

}  // namespace

moek_status dropout_mask(void* state, const moek_dropout_args* args, void* stream) {
    return guarded([&] {
        require_not_f64(args->mask_dtype);
        const Device& device = device_of(state);
        const DeviceGuard guard(device);
        run(device, *args, stream_of(stream));
    });
}

}  // namespace moek::cuda
