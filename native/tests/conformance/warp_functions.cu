// Shuffles, votes, matches, reductions, and the barriers that count.
#include "cuda/common/shared_memory.hpp"
#include "cuda/common/warp.hpp"
#include "tests/conformance/cases.hpp"
#include "tests/conformance/device.hpp"

namespace moek::conformance {
namespace {

constexpr int kShuffles = 4;

__global__ void shuffle(const uint32_t* in, uint32_t* out, int argument, int width) {
    const int lane = static_cast<int>(threadIdx.x);
    const uint32_t value = in[lane];
    out[lane] = __shfl_sync(cuda::kAllLanes, value, argument, width);
    out[32 + lane] = __shfl_up_sync(cuda::kAllLanes, value, static_cast<unsigned>(argument), width);
    out[64 + lane] = __shfl_down_sync(cuda::kAllLanes, value, static_cast<unsigned>(argument), width);
    out[96 + lane] = __shfl_xor_sync(cuda::kAllLanes, value, argument, width);
}

void record_shuffles(Record& record) {
    const DeviceArray<uint32_t> in(Words(51).next(32));
    std::vector<uint32_t> results;
    for (int width = 1; width <= 32; width *= 2) {
        for (int argument : {0, 1, 2, 5, 16, 31}) {
            const DeviceArray<uint32_t> out(32 * kShuffles);
            cuda::launch(shuffle, 1, 32, 0, nullptr, in.data(), out.data(), argument, width);
            for (uint32_t word : out.values()) results.push_back(word);
        }
    }
    record.folded("shfl", results);
}

constexpr int kVotes = 12;

// On random words of few different values.
__global__ void vote(const uint32_t* in, uint32_t* out) {
    const int lane = static_cast<int>(threadIdx.x);
    const uint32_t value = in[blockIdx.x * 32 + lane] % 5u;
    uint32_t* mine = out + blockIdx.x * 32 * kVotes + lane;
    mine[0] = __ballot_sync(cuda::kAllLanes, value > 2);
    mine[32] = static_cast<uint32_t>(__any_sync(cuda::kAllLanes, value > 3));
    mine[64] = static_cast<uint32_t>(__all_sync(cuda::kAllLanes, value < 5));
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 700
    int all = 0;
    mine[96] = __match_any_sync(cuda::kAllLanes, value);
    mine[128] = __match_all_sync(cuda::kAllLanes, value / 5u, &all) + static_cast<uint32_t>(all);
#endif
    mine[160] = __reduce_add_sync(cuda::kAllLanes, in[blockIdx.x * 32 + lane]);
    mine[192] = __reduce_min_sync(cuda::kAllLanes, in[blockIdx.x * 32 + lane]);
    mine[224] = __reduce_max_sync(cuda::kAllLanes, in[blockIdx.x * 32 + lane]);
    mine[256] = static_cast<uint32_t>(__reduce_max_sync(cuda::kAllLanes, static_cast<int>(in[blockIdx.x * 32 + lane])));
    mine[288] = __reduce_or_sync(cuda::kAllLanes, 1u << value);
    mine[320] = __reduce_and_sync(cuda::kAllLanes, ~(1u << value));
    mine[352] = __reduce_xor_sync(cuda::kAllLanes, in[blockIdx.x * 32 + lane]);
}

void record_votes(Record& record) {
    constexpr unsigned kBlocks = 4;
    const DeviceArray<uint32_t> in(Words(52).next(32 * kBlocks));
    const DeviceArray<uint32_t> out(32 * kVotes * kBlocks);
    cuda::launch(vote, kBlocks, 32, 0, nullptr, in.data(), out.data());
    record.folded("vote_match_redux", out.values());
}

template <int kWidth>
__global__ void reduce(const float* in, uint32_t* out) {
    const int lane = static_cast<int>(threadIdx.x);
    out[lane] = __float_as_uint(cuda::warp_sum<kWidth>(in[lane]));
    out[32 + lane] = __float_as_uint(cuda::warp_max<kWidth>(in[lane]));
}

template <int kWidth>
void record_reduce(Record& record) {
    Words words(53);
    std::vector<float> values(32);
    for (float& value : values) value = words.fraction();
    const DeviceArray<float> in(values);
    const DeviceArray<uint32_t> out(64);
    cuda::launch(reduce<kWidth>, 1, 32, 0, nullptr, in.data(), out.data());
    record.bits("warp_sum_max." + std::to_string(kWidth), out.values());
}

__global__ void barrier(uint32_t* out) {
    const int thread = static_cast<int>(threadIdx.x);
    out[thread] = static_cast<uint32_t>(__syncthreads_count(thread % 3 == 0));
    out[96 + thread] = static_cast<uint32_t>(__syncthreads_and(thread < 95) != 0);
    out[192 + thread] = static_cast<uint32_t>(__syncthreads_or(thread == 95) != 0);
}

}  // namespace

void record_warp_functions(Record& record) {
    record_shuffles(record);
    record_votes(record);
    record_reduce<32>(record);
    record_reduce<8>(record);
    const DeviceArray<uint32_t> out(3 * 96);
    cuda::launch(barrier, 1, 96, 0, nullptr, out.data());
    record.folded("barrier_predicates", out.values());
}

}  // namespace moek::conformance
