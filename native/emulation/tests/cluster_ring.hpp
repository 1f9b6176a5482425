// A pipeline of two blocks that share what they read, in the form of cuda/gemm/cluster_product.hpp, with a bug of each kind that
// such a pipeline invites; and a run that tells whether it did harm.
#pragma once

#include <vector>

#include "cuda/common/cluster.hpp"
#include "cuda/common/mbarrier.hpp"
#include "cuda/common/tensor_copy.hpp"
#include "cuda/common/tensor_map.hpp"
#include "cuda/gemm/operand_tile.hpp"
#include "emulation/tests/support.hpp"

namespace moek::emulation::test {

enum class RingBug {
    kNone,
    kNoWaitForEmpty,    // a stage is filled again while it is read
    kNoWaitForFull,     // a stage is read before it is there
    kOwnBlockOnly,      // only the block's own warps give a stage back, not those of the other
    kTooFewBytes,       // announced
    kTooManyBytes,      // announced
    kNoSyncAtTheStart,  // a copy may come before the other block's barriers exist
    kNoSyncAtTheEnd,    // a block ends while the other arrives at its barriers
    kNoSwizzle,         // on the reading side
};

inline constexpr int kRingStages = 2;
inline constexpr int kRingLines = 16;  // of a stage; each block brings half of them
inline constexpr int kRingStageBytes = kRingLines * 128;
inline constexpr int kRingRounds = 7;

// out[block][lane] = sum of (round + 1) x the half line `lane` of each round's box.
template <RingBug kBug>
__global__ void cluster_ring(const __grid_constant__ CUtensorMap map, int* out) {
    MOEK_DYNAMIC_SHARED_1024(unsigned char, shared);
    MOEK_SHARED(uint64_t, full, kRingStages);
    MOEK_SHARED(uint64_t, empty, kRingStages);
    if (threadIdx.x == 0) {
        for (int i = 0; i < kRingStages; ++i) {
            cuda::mbarrier_init(full + i, 1);
            cuda::mbarrier_init(empty + i, kBug == RingBug::kOwnBlockOnly ? 1 : 2);
        }
        cuda::mbarrier_fence_init();
    }
    if (kBug == RingBug::kNoSyncAtTheStart) {
        __syncthreads();
    } else {
        cuda::cluster_arrive_relaxed();
        cuda::cluster_wait();
    }
    if (threadIdx.x >= 32) {
        if (threadIdx.x != 32) return;
        const int first = 8 * static_cast<int>(cuda::cluster_rank());
        for (int round = 0; round < kRingRounds; ++round) {
            const int stage = round % kRingStages;
            const unsigned parity = static_cast<unsigned>(round / kRingStages % 2);
            if (kBug != RingBug::kNoWaitForEmpty) cuda::mbarrier_wait(empty + stage, parity ^ 1);
            cuda::mbarrier_arrive_expect(full + stage, kBug == RingBug::kTooFewBytes    ? kRingStageBytes / 2
                                                       : kBug == RingBug::kTooManyBytes ? kRingStageBytes + 128
                                                                                        : kRingStageBytes);
            cuda::tensor_copy_multicast(shared + stage * kRingStageBytes + first * 128, map, 64 * round, first,
                                        full + stage, 3);
        }
        return;
    }
    using Tile = cuda::OperandTile<uint16_t, kRingLines, cuda::Along::kDepth>;
    const int lane = static_cast<int>(threadIdx.x);
    int sum = 0;
    for (int round = 0; round < kRingRounds; ++round) {
        const int stage = round % kRingStages;
        if (kBug != RingBug::kNoWaitForFull) {
            cuda::mbarrier_wait(full + stage, static_cast<unsigned>(round / kRingStages % 2));
        }
        const unsigned char* const tile = shared + stage * kRingStageBytes;
        for (int i = 0; i < 32; ++i) {
            const int line = lane / 2;
            const int element = lane % 2 * 32 + i;
            const int place =
                kBug == RingBug::kNoSwizzle ? line * 128 + element * 2 : Tile::element_offset(line, element);
            sum += (round + 1) * *reinterpret_cast<const uint16_t*>(tile + place);
        }
        __syncwarp();
        if (kBug == RingBug::kOwnBlockOnly) {
            if (lane == 0) cuda::mbarrier_arrive_at(empty + stage, cuda::cluster_rank());
        } else if (kBug == RingBug::kNoWaitForEmpty) {
            // Whoever forgets the wait has nobody to tell.
        } else if (lane < 2) {
            cuda::mbarrier_arrive_at(empty + stage, static_cast<unsigned>(lane));
        }
        __syncwarp();
    }
    out[blockIdx.x * 32 + threadIdx.x] = sum;
    if (kBug == RingBug::kNoSyncAtTheEnd) return;
    cuda::cluster_arrive_relaxed();
    cuda::cluster_wait();
}

template <RingBug kBug>
bool ring_is_right() {
    constexpr int kElements = 64 * kRingRounds;
    uint16_t* data = nullptr;
    cudaMalloc(&data, kRingLines * kElements * sizeof(uint16_t));
    std::vector<int> expected(2 * 32), out(2 * 32);
    for (int line = 0; line < kRingLines; ++line) {
        for (int element = 0; element < kElements; ++element) {
            const int value = (line * 37 + element * 11) % 1000;
            data[line * kElements + element] = static_cast<uint16_t>(value);
            for (int block = 0; block < 2; ++block) {
                expected[static_cast<size_t>(block * 32 + line * 2 + element % 64 / 32)] += (element / 64 + 1) * value;
            }
        }
    }
    CUtensorMap map = {};
    const bool right =
        cuda::make_tensor_map(cuda::find_tensor_map_encoder(), {data, kElements, kRingLines, kElements, 8}, map) &&
        launch_clusters(cluster_ring<kBug>, 2, 64, 2, kRingStages * kRingStageBytes, nullptr, map, out.data()) ==
            cudaSuccess &&
        out == expected;
    cudaFree(data);
    return right;
}

}  // namespace moek::emulation::test
