// Tensor copies: the bytes of a box as they lie in shared memory, inside and beside the matrix, for one block and for a cluster.
// GPUs before compute capability 9.0 have none, and record nothing.
#include "cuda/common/cluster.hpp"
#include "cuda/common/mbarrier.hpp"
#include "cuda/common/tensor_copy.hpp"
#include "cuda/common/tensor_map.hpp"
#include "tests/conformance/cases.hpp"
#include "tests/conformance/device.hpp"

namespace moek::conformance {
namespace {

constexpr int kLines = 20;
constexpr int kElements = 100;
constexpr int kStride = 104;
constexpr int kBoxLines = 16;
constexpr int kBoxWords = kBoxLines * cuda::kBoxElements / 2;

// Each block of the cluster brings its share of the box's lines for all, and writes down what it has then.
__global__ void copy_box(const __grid_constant__ CUtensorMap map, int element, int line, uint32_t* out) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    MOEK_DYNAMIC_SHARED_1024(uint32_t, shared);
    MOEK_SHARED(uint64_t, barrier, 1);
    if (threadIdx.x == 0) {
        cuda::mbarrier_init(barrier, cuda::cluster_size());
        cuda::mbarrier_fence_init();
    }
    cuda::cluster_arrive_relaxed();
    cuda::cluster_wait();
    if (threadIdx.x == 0) {
        // All blocks announce all bytes at their own barrier; the arrivals of the others come from there.
        cuda::mbarrier_arrive_expect(barrier, kBoxWords * 4);
        for (uint32_t other = 0; other < cuda::cluster_size(); ++other) {
            if (other != cuda::cluster_rank()) cuda::mbarrier_arrive_at(barrier, other);
        }
        const int share = kBoxLines / static_cast<int>(cuda::cluster_size());
        const int first = share * static_cast<int>(cuda::cluster_rank());
        uint32_t* const target = shared + first * cuda::kBoxElements / 2;
        if (cuda::cluster_size() == 1) {
            cuda::tensor_copy(target, map, element, line, barrier);
        } else {
            const uint16_t everyone = static_cast<uint16_t>((1u << cuda::cluster_size()) - 1);
            cuda::tensor_copy_multicast(target, map, element, line + first, barrier, everyone);
        }
    }
    cuda::mbarrier_wait(barrier, 0);
    for (int i = static_cast<int>(threadIdx.x); i < kBoxWords; i += 32) {
        out[static_cast<int>(blockIdx.x) * kBoxWords + i] = shared[i];
    }
    cuda::cluster_arrive_relaxed();
    cuda::cluster_wait();
#endif
}

void record_boxes(Record& record, cuda::TensorMapEncoder encoder, unsigned cluster) {
    const DeviceArray<uint32_t> matrix(Words(31).next(kLines * kStride / 2));
    CUtensorMap map = {};
    const int box_lines = kBoxLines / static_cast<int>(cluster);
    if (!cuda::make_tensor_map(encoder, {matrix.data(), kElements, kLines, kStride, box_lines}, map)) return;
    // Inside, over each edge, in a corner, and beside the matrix.
    constexpr int kPlaces[][2] = {{0, 0}, {8, 3}, {64, 0}, {-16, 2}, {0, 10}, {0, -5}, {56, 12}, {128, 40}};
    for (const auto& [element, line] : kPlaces) {
        const DeviceArray<uint32_t> target(kBoxWords * cluster);
        cuda::launch_clusters(copy_box, cluster, 32, cluster, kBoxWords * 4, nullptr, map, element, line,
                              target.data());
        record.bits("cp.async.bulk.tensor." + std::to_string(cluster) + "." + std::to_string(element) + "." +
                        std::to_string(line),
                    target.values());
    }
}

}  // namespace

void record_tensor_copies(Record& record) {
    int major = 0;
    cuda::check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "cudaDeviceGetAttribute");
    const cuda::TensorMapEncoder encoder = major < 9 ? nullptr : cuda::find_tensor_map_encoder();
    if (encoder == nullptr) return;
    record_boxes(record, encoder, 1);
    record_boxes(record, encoder, 2);
}

}  // namespace moek::conformance
