// Tensor copies: what they bring, where to, when, and what they and the maps refuse.
#include "cuda/common/tensor_copy.hpp"

#include <numeric>

#include "cuda/common/cluster.hpp"
#include "cuda/common/mbarrier.hpp"
#include "cuda/common/tensor_map.hpp"
#include "cuda/gemm/operand_tile.hpp"
#include "emulation/tests/cluster_barriers.hpp"
#include "emulation/tests/support.hpp"

namespace moek::emulation::test {
namespace {

using cuda::TensorMapShape;

constexpr int kBoxBytes = 128;  // of a line

// A box of 16 lines, and what a tile of operands makes of it.
__global__ void one_box(const __grid_constant__ CUtensorMap map, int element, int line, uint16_t* out) {
    MOEK_DYNAMIC_SHARED_1024(unsigned char, shared);
    MOEK_SHARED(uint64_t, barrier, 1);
    begin_cluster(barrier, 1, 1);
    if (threadIdx.x == 0) {
        cuda::mbarrier_arrive_expect(barrier, 16 * kBoxBytes);
        cuda::tensor_copy(shared, map, element, line, barrier);
    }
    cuda::mbarrier_wait(barrier, 0);
    using Tile = cuda::OperandTile<uint16_t, 16, cuda::Along::kDepth>;
    for (int i = static_cast<int>(threadIdx.x); i < 16 * 64; i += 32) {
        out[i] = *reinterpret_cast<const uint16_t*>(shared + Tile::element_offset(i / 64, i % 64));
    }
}

struct Matrix {
    static constexpr int kLines = 37;
    static constexpr int kElements = 100;
    static constexpr int kStride = 104;
    uint16_t* data = nullptr;

    Matrix() {
        // Exactly as large as it has to be: AddressSanitizer sees what is read beside it.
        cudaMalloc(&data, ((kLines - 1) * kStride + kElements) * sizeof(uint16_t));
        for (int line = 0; line < kLines; ++line) {
            for (int element = 0; element < kElements; ++element) data[line * kStride + element] = value(line, element);
        }
    }
    ~Matrix() { cudaFree(data); }
    static uint16_t value(int line, int element) {
        const bool exists = line >= 0 && line < kLines && element >= 0 && element < kElements;
        return exists ? static_cast<uint16_t>(line * 1000 + element + 1) : uint16_t{0};
    }
    TensorMapShape shape(int box_lines) const { return {data, kElements, kLines, kStride, box_lines}; }
};

CUtensorMap map_of(const TensorMapShape& shape) {
    CUtensorMap map = {};
    EXPECT_TRUE(cuda::make_tensor_map(cuda::find_tensor_map_encoder(), shape, map));
    return map;
}

TEST(TensorCopy, BringsATileAsOperandsLieInIt) {
    const Matrix matrix;
    const CUtensorMap map = map_of(matrix.shape(16));
    for (unsigned seed : {0u, 1u, 2u}) {
        const Schedule schedule(seed);
        // Inside, over each edge, and beside the matrix.
        for (const int line : {0, 5, 30, 37, 100, -3}) {
            for (const int element : {0, 3, 36, 64, 200, -64, -8}) {
                std::vector<uint16_t> out(16 * 64);
                ASSERT_EQ(launch(one_box, 1, 32, 16 * kBoxBytes, nullptr, map, element, line, out.data()), cudaSuccess)
                    << cudaGetErrorString(cudaPeekAtLastError());
                for (int i = 0; i < 16 * 64; ++i) {
                    ASSERT_EQ(out[static_cast<size_t>(i)], Matrix::value(line + i / 64, element + i % 64))
                        << line << " " << element << " " << i;
                }
            }
        }
    }
}

// Each block brings a half of the tile for both.
__global__ void shared_box(const __grid_constant__ CUtensorMap map, uint16_t* out) {
    MOEK_DYNAMIC_SHARED_1024(unsigned char, shared);
    MOEK_SHARED(uint64_t, barrier, 1);
    begin_cluster(barrier, 1, 1);
    if (threadIdx.x == 0) {
        const int line = 8 * static_cast<int>(cuda::cluster_rank());
        cuda::mbarrier_arrive_expect(barrier, 16 * kBoxBytes);
        cuda::tensor_copy_multicast(shared + line * kBoxBytes, map, 0, line, barrier, 3);
    }
    cuda::mbarrier_wait(barrier, 0);
    using Tile = cuda::OperandTile<uint16_t, 16, cuda::Along::kDepth>;
    for (int i = static_cast<int>(threadIdx.x); i < 16 * 64; i += 32) {
        out[blockIdx.x * 16 * 64 + static_cast<unsigned>(i)] =
            *reinterpret_cast<const uint16_t*>(shared + Tile::element_offset(i / 64, i % 64));
    }
    end_cluster();
}

TEST(TensorCopy, MulticastsToTheWholeCluster) {
    const Matrix matrix;
    const CUtensorMap map = map_of(matrix.shape(8));
    for (unsigned seed = 0; seed < 5; ++seed) {
        const Schedule schedule(seed, seed % 2 * 10);
        statistics() = {};
        std::vector<uint16_t> out(4 * 16 * 64);
        ASSERT_EQ(launch_clusters(shared_box, 4, 32, 2, 16 * kBoxBytes, nullptr, map, out.data()), cudaSuccess)
            << cudaGetErrorString(cudaPeekAtLastError());
        for (int i = 0; i < 4 * 16 * 64; ++i) {
            ASSERT_EQ(out[static_cast<size_t>(i)], Matrix::value(i / 64 % 16, i % 64)) << seed << " " << i;
        }
        EXPECT_EQ(statistics().tensor_copies, 4u);
        EXPECT_EQ(statistics().tensor_bytes, 4u * 8 * kBoxBytes);
    }
}

#if !defined(__SANITIZE_THREAD__)  // it would report the race, and fail the test

// Without a wait the copy may be there or not: until it is, the target holds NaN.
__global__ void impatient(const __grid_constant__ CUtensorMap map, uint16_t* out) {
    MOEK_DYNAMIC_SHARED_1024(unsigned char, shared);
    MOEK_SHARED(uint64_t, barrier, 1);
    begin_cluster(barrier, 1, 1);
    if (threadIdx.x != 0) return;
    *reinterpret_cast<uint16_t*>(shared) = 7;
    cuda::mbarrier_arrive_expect(barrier, 8 * kBoxBytes);
    cuda::tensor_copy(shared, map, 0, 0, barrier);
    *out = *reinterpret_cast<const uint16_t*>(shared);
    cuda::mbarrier_wait(barrier, 0);
}

TEST(TensorCopy, MayComeAtAnyTime) {
    const Matrix matrix;
    const CUtensorMap map = map_of(matrix.shape(8));
    bool early = false, late = false;
    for (unsigned seed = 0; seed < 20; ++seed) {
        const Schedule schedule(seed);
        uint16_t out = 0;
        ASSERT_EQ(launch(impatient, 1, 32, 8 * kBoxBytes, nullptr, map, &out), cudaSuccess);
        EXPECT_TRUE(out == 1 || out == 0xFFFF) << out;
        early = early || out == 1;
        late = late || out == 0xFFFF;
        EXPECT_TRUE(seed != 0 || out == 0xFFFF);
    }
    EXPECT_TRUE(early);
    EXPECT_TRUE(late);
}
#endif

enum class Misuse {
    kNone,
    kUnaligned,
    kNotDeclared,
    kNoBarrier,
    kTooLarge,
    kNotWaitedFor,
    kNotAnnounced,
    kNoSuchBlock,
    kNoMap
};

template <Misuse kMisuse>
__global__ void misuse(const __grid_constant__ CUtensorMap map) {
    MOEK_DYNAMIC_SHARED(unsigned char, less_aligned);
    if (kMisuse != Misuse::kNotDeclared) {
        MOEK_DYNAMIC_SHARED_1024(unsigned char, aligned);
        static_cast<void>(aligned);
    }
    MOEK_SHARED(uint64_t, barrier, 1);
    begin_cluster(barrier, 1, 1);
    if (threadIdx.x != 0) return;
    unsigned char* const target = less_aligned + (kMisuse == Misuse::kUnaligned  ? 128
                                                  : kMisuse == Misuse::kTooLarge ? 1024
                                                                                 : 0);
    if (kMisuse != Misuse::kNotAnnounced) cuda::mbarrier_arrive_expect(barrier, 8 * kBoxBytes);
    if (kMisuse == Misuse::kNoSuchBlock) {
        cuda::tensor_copy_multicast(target, map, 0, 0, barrier, 6);
    } else {
        cuda::tensor_copy(target, map, 0, 0, kMisuse == Misuse::kNoBarrier ? barrier + 1 : barrier);
    }
    if (kMisuse == Misuse::kNotAnnounced) {
        for (int i = 0; i < 3; ++i) __nanosleep(1);
        cuda::mbarrier_arrive_at(barrier, 0);
    }
    if (kMisuse != Misuse::kNotWaitedFor) cuda::mbarrier_wait(barrier, 0);
}

template <Misuse kMisuse>
cudaError_t launch_misuse() {
    const Matrix matrix;
    CUtensorMap map = map_of(matrix.shape(8));
    if (kMisuse == Misuse::kNoMap) map.opaque[0] = 0;
    return launch(misuse<kMisuse>, 1, 32, 8 * kBoxBytes, nullptr, map);
}

TEST(TensorCopy, Refuses) {
    EXPECT_EQ(launch_misuse<Misuse::kNone>(), cudaSuccess) << cudaGetErrorString(cudaPeekAtLastError());
    EXPECT_EQ(launch_misuse<Misuse::kTooLarge>(), cudaErrorIllegalAddress);
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kNotDeclared>(), cudaErrorMisalignedAddress,
                        "the target is not sure to be aligned to 1024 bytes");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kNoMap>(), cudaErrorIllegalInstruction,
                        "not made by cuTensorMapEncodeTiled");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kNoBarrier>(), cudaErrorLaunchFailure, "no mbarrier was initialised");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kNoSuchBlock>(), cudaErrorIllegalInstruction,
                        "the mask names blocks beyond the cluster's 1");
    MOEK_EXPECT_FAILURE(launch_misuse<Misuse::kNotWaitedFor>(), cudaErrorLaunchFailure,
                        "a tensor copy into its shared memory is under way");
}

TEST(TensorCopy, RefusesTargetsThatItsSwizzleDoesNotFit) {
    const Matrix matrix;
    const CUtensorMap map = map_of(matrix.shape(8));
    MOEK_EXPECT_FAILURE(launch(misuse<Misuse::kUnaligned>, 1, 32, 9 * kBoxBytes, nullptr, map),
                        cudaErrorMisalignedAddress, "not sure to be aligned to 1024 bytes");
}

TEST(TensorCopy, SeesBytesThatNobodyAnnounced) {
    const Matrix matrix;
    const CUtensorMap map = map_of(matrix.shape(8));
    bool found = false;
    for (unsigned seed = 0; seed < 6; ++seed) {
        const Schedule schedule(seed);
        EXPECT_NE(launch(misuse<Misuse::kNotAnnounced>, 1, 32, 8 * kBoxBytes, nullptr, map), cudaSuccess);
        const std::string text = cudaGetErrorString(cudaErrorLaunchFailure);
        found = found || text.find("bytes come at an mbarrier that were never announced") != std::string::npos ||
                text.find("for 0 arrivals and -1024 bytes") != std::string::npos;
    }
    EXPECT_TRUE(found) << cudaGetErrorString(cudaErrorLaunchFailure);
}

TEST(TensorMap, IsMadeOfWhatTheDriverTakes) {
    const Matrix matrix;
    const cuda::TensorMapEncoder encoder = cuda::find_tensor_map_encoder();
    ASSERT_NE(encoder, nullptr);
    CUtensorMap map = {};
    const auto makes = [&](auto change) {
        TensorMapShape shape = matrix.shape(8);
        change(shape);
        return cuda::make_tensor_map(encoder, shape, map);
    };
    EXPECT_TRUE(makes([](auto&) {}));
    EXPECT_FALSE(makes([](auto& shape) { shape.data = static_cast<const uint16_t*>(shape.data) + 1; }));
    EXPECT_FALSE(makes([](auto& shape) { shape.data = nullptr; }));
    EXPECT_FALSE(makes([](auto& shape) { shape.stride = 103; }));
    EXPECT_FALSE(makes([](auto& shape) { shape.stride = int64_t{1} << 39; }));
    EXPECT_FALSE(makes([](auto& shape) { shape.lines = 0; }));
    EXPECT_FALSE(makes([](auto& shape) { shape.elements = (int64_t{1} << 32) + 1; }));
    EXPECT_FALSE(makes([](auto& shape) { shape.box_lines = 257; }));
    EXPECT_FALSE(makes([](auto& shape) { shape.box_lines = 0; }));
    const Environment none("MOEK_EMULATION_TENSOR_MAPS", "0");
    EXPECT_EQ(cuda::find_tensor_map_encoder(), nullptr);
}

// What make_tensor_map never asks for.
TEST(TensorMap, HasBoxesThatFitTheirSwizzle) {
    const Matrix matrix;
    const cuda::TensorMapEncoder encoder = cuda::find_tensor_map_encoder();
    CUtensorMap map = {};
    const auto encode = [&](cuuint32_t rank, cuuint32_t box_elements, cuuint32_t step, CUtensorMapSwizzle swizzle) {
        const cuuint64_t sizes[] = {Matrix::kElements, Matrix::kLines};
        const cuuint64_t strides[] = {2 * Matrix::kStride};
        const cuuint32_t box[] = {box_elements, 8};
        const cuuint32_t steps[] = {step, 1};
        return encoder(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, rank, matrix.data, sizes, strides, box, steps,
                       CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                       CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    };
    EXPECT_EQ(encode(2, 64, 1, CU_TENSOR_MAP_SWIZZLE_128B), CUDA_SUCCESS);
    EXPECT_EQ(encode(2, 128, 1, CU_TENSOR_MAP_SWIZZLE_NONE), CUDA_SUCCESS);
    EXPECT_EQ(encode(2, 72, 1, CU_TENSOR_MAP_SWIZZLE_128B), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(encode(2, 64, 1, CU_TENSOR_MAP_SWIZZLE_64B), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(encode(2, 4, 1, CU_TENSOR_MAP_SWIZZLE_32B), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(encode(2, 64, 2, CU_TENSOR_MAP_SWIZZLE_128B), CUDA_ERROR_NOT_SUPPORTED);
    EXPECT_EQ(encode(3, 64, 1, CU_TENSOR_MAP_SWIZZLE_128B), CUDA_ERROR_NOT_SUPPORTED);
}

}  // namespace
}  // namespace moek::emulation::test
