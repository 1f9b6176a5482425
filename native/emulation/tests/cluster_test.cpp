// Clusters: who is in one, their barrier, and what it refuses.
#include "cuda/common/cluster.hpp"

#include "cuda/common/shared_memory.hpp"
#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

__global__ void members(unsigned* out) {
    const unsigned block = blockIdx.x + gridDim.x * blockIdx.y;
    if (threadIdx.x == 0) {
        out[2 * block] = cuda::cluster_rank();
        out[2 * block + 1] = cuda::cluster_size();
    }
}

TEST(Cluster, IsBlocksThatAreNeighboursAlongX) {
    for (unsigned seed : {0u, 1u, 2u}) {
        const Schedule schedule(seed);
        for (unsigned cluster : {1u, 2u, 4u}) {
            std::vector<unsigned> out(2 * 8 * 3);
            ASSERT_EQ(launch_clusters(members, dim3(8, 3), 32, cluster, 0, nullptr, out.data()), cudaSuccess);
            for (unsigned block = 0; block < 24; ++block) {
                EXPECT_EQ(out[2 * block], block % 8 % cluster);
                EXPECT_EQ(out[2 * block + 1], cluster);
            }
        }
    }
}

// Every block counts, and none goes on before all of its cluster have.
__global__ void everyone(unsigned* counts, unsigned* seen) {
    const unsigned cluster = blockIdx.x / cuda::cluster_size();
    atomicAdd(&counts[cluster], 1u);
    cuda::cluster_arrive_relaxed();
    cuda::cluster_wait();
    seen[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(&counts[cluster], 0u);
}

TEST(Cluster, WaitsForAllThreadsOfAllBlocks) {
    for (unsigned seed : {0u, 1u, 2u, 3u}) {
        const Schedule schedule(seed, 10);
        std::vector<unsigned> counts(3), seen(6 * 64);
        ASSERT_EQ(launch_clusters(everyone, 6, 64, 2, 0, nullptr, counts.data(), seen.data()), cudaSuccess);
        EXPECT_EQ(seen, std::vector<unsigned>(6 * 64, 2 * 64)) << seed;
    }
}

__global__ void early_end(unsigned* out) {
    if (threadIdx.x >= 32) return;
    cuda::cluster_arrive_relaxed();
    cuda::cluster_wait();
    out[blockIdx.x * 32 + threadIdx.x] = 1;
}

TEST(Cluster, WaitsForTheThreadsThatAreLeft) {
    for (unsigned seed : {0u, 1u}) {
        const Schedule schedule(seed);
        std::vector<unsigned> out(4 * 32);
        ASSERT_EQ(launch_clusters(early_end, 4, 96, 4, 0, nullptr, out.data()), cudaSuccess);
        EXPECT_EQ(out, std::vector<unsigned>(4 * 32, 1));
    }
}

__global__ void nothing() {}
__global__ void arrives_twice() {
    cuda::cluster_arrive_relaxed();
    cuda::cluster_arrive_relaxed();
}
__global__ void waits_only() {
    cuda::cluster_wait();
}
__global__ void arrives_only() {
    cuda::cluster_arrive_relaxed();
}
__global__ void half_a_warp_stays_away() {
    if (blockIdx.x == 1 && threadIdx.x < 16) __syncwarp();
    cuda::cluster_arrive_relaxed();
    cuda::cluster_wait();
}

TEST(Cluster, Refuses) {
    EXPECT_EQ(launch_clusters(nothing, 16, 32, 8, 0, nullptr), cudaSuccess);
    MOEK_EXPECT_FAILURE(launch_clusters(nothing, 9, 32, 2, 0, nullptr), cudaErrorInvalidClusterSize,
                        "clusters of 2 blocks along a grid of 9");
    EXPECT_EQ(launch_clusters(nothing, 16, 32, 16, 0, nullptr), cudaErrorInvalidClusterSize);
    EXPECT_EQ(launch_clusters(nothing, 16, 32, 0, 0, nullptr), cudaErrorInvalidClusterSize);
    MOEK_EXPECT_FAILURE(launch_clusters(arrives_twice, 2, 32, 2, 0, nullptr), cudaErrorLaunchFailure,
                        "has not waited since it arrived last");
    MOEK_EXPECT_FAILURE(launch_clusters(waits_only, 2, 32, 2, 0, nullptr), cudaErrorLaunchFailure,
                        "a thread that has not arrived");
    MOEK_EXPECT_FAILURE(launch_clusters(arrives_only, 2, 32, 2, 0, nullptr), cudaErrorLaunchFailure,
                        "ends between barrier.cluster.arrive and barrier.cluster.wait");
    MOEK_EXPECT_FAILURE(launch_clusters(half_a_warp_stays_away, 2, 32, 2, 0, nullptr), cudaErrorLaunchFailure,
                        "waits in barrier.cluster.wait");
    const Environment old("MOEK_EMULATION_CAPABILITY", "89");
    EXPECT_EQ(launch_clusters(nothing, 2, 32, 1, 0, nullptr), cudaSuccess);
    MOEK_EXPECT_FAILURE(launch_clusters(nothing, 2, 32, 2, 0, nullptr), cudaErrorInvalidClusterSize,
                        "need compute capability 9.0");
}

}  // namespace
}  // namespace moek::emulation::test
