// One step of load balancing: bias_e += rate * sign(target - counts_e), the target given or the mean of the counts.
//
// One block does it all: the sum of the counts, at most 4096 of them, has to be known before the first bias moves. It is a
// sum of integers, exact in any order, and the rest is in double precision as on the CPU: the bits are the same. 12 bytes
// per expert move; what the kernel takes is its launch and one trip to memory.
#include "cuda/common/launch.hpp"
#include "cuda/common/shared_memory.hpp"
#include "cuda/common/warp.hpp"
#include "cuda/gate/gate.hpp"

namespace moek::cuda {
namespace {

constexpr int kThreads = 256;

struct BiasUpdate {
    int E;
    bool uses_mean;
    double rate;
    double target;
    const int32_t* counts;
    float* bias;
};

__global__ void __launch_bounds__(kThreads) bias_update_kernel(BiasUpdate call) {
    MOEK_SHARED(int64_t, partial, kThreads / 32);
    double target = call.target;
    if (call.uses_mean) {
        int64_t sum = 0;
        for (int e = static_cast<int>(threadIdx.x); e < call.E; e += kThreads) sum += call.counts[e];
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) {
            sum += __shfl_xor_sync(kAllLanes, static_cast<long long>(sum), distance);
        }
        if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
        __syncthreads();
        sum = 0;
#pragma unroll
        for (int warp = 0; warp < kThreads / 32; ++warp) sum += partial[warp];
        target = static_cast<double>(sum) / static_cast<double>(call.E);
    }
    for (int e = static_cast<int>(threadIdx.x); e < call.E; e += kThreads) {
        const double distance = target - static_cast<double>(call.counts[e]);
        const double sign = distance > 0 ? 1 : (distance < 0 ? -1 : 0);
        call.bias[e] = static_cast<float>(static_cast<double>(call.bias[e]) + call.rate * sign);
    }
}

}  // namespace

moek_status gate_bias_update(void* state, const moek_gate_bias_update_args* args, void* stream) {
    return guarded([&] {
        require_not_f64(args->bias_dtype);
        const Device& device = device_of(state);
        const DeviceGuard guard(device);
        BiasUpdate call = {};
        call.E = static_cast<int>(args->E);
        call.uses_mean = args->target_mode == MOEK_BIAS_TARGET_MEAN;
        call.rate = args->rate;
        call.target = args->target;
        call.counts = static_cast<const int32_t*>(args->counts);
        call.bias = static_cast<float*>(args->bias);
        launch(bias_update_kernel, dim3(1), dim3(kThreads), 0, stream_of(stream), call);
    });
}

}  // namespace moek::cuda
