// G[c, d] (+)= sum_s P[s][c, d].
//
// Layouts     P [splits, columns, width] in f32; G as GradientTarget says.
// Owner       Every gradient belongs to one thread.
// Bytes       4 splits columns width read (out of L2: written just before), G written. Neighbouring threads take
//             neighbouring elements of X, also where G is transposed: G is small beside what was read to make it.
// Order       s = 0, 1, 2, ...
#include "cuda/common/launch.hpp"
#include "cuda/gemm/gradient_sum.hpp"
#include "cuda/gemm/gradient_target.hpp"

namespace moek::cuda {
namespace {

constexpr int kThreads = 256;

struct Parameters {
    const float* partials;
    GradientTargets targets;
    int64_t part;  // columns x width
    int32_t splits;
    int32_t width;
};

__global__ void __launch_bounds__(kThreads) gradient_sum_kernel(const Parameters call) {
    const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (index >= call.part) return;
    float sum = 0;
    for (int s = 0; s < call.splits; ++s) sum += call.partials[s * call.part + index];
    call.targets.store(static_cast<int>(index / call.width), static_cast<int>(index % call.width), sum);
}

}  // namespace

void run_gradient_sum(const WeightGradient& gradient, cudaStream_t stream) {
    Parameters call = {};
    call.partials = gradient.partials;
    call.targets = targets_of(gradient);
    call.part = static_cast<int64_t>(gradient.left.elements) * gradient.tokens.elements;
    call.splits = gradient.plan.splits;
    call.width = gradient.tokens.elements;
    launch(gradient_sum_kernel, dim3(static_cast<unsigned>((call.part + kThreads - 1) / kThreads)), dim3(kThreads), 0,
           stream, call);
}

}  // namespace moek::cuda
