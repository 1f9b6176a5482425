// ldmatrix: rows of random bits, in a random order.
#include <algorithm>

#include "cuda/common/ldmatrix.hpp"
#include "tests/conformance/cases.hpp"
#include "tests/conformance/device.hpp"

namespace moek::conformance {
namespace {

constexpr int kRowWords = 4;

template <int kMatrices, bool kTranspose>
__global__ void load(const uint32_t* source, const uint32_t* order, uint32_t* out) {
    MOEK_SHARED(uint32_t, rows, 32 * kRowWords);
    const int lane = static_cast<int>(threadIdx.x);
    for (int i = 0; i < kRowWords; ++i) rows[lane * kRowWords + i] = source[lane * kRowWords + i];
    __syncwarp();
    const uint32_t* row = rows + order[lane] * kRowWords;
    uint32_t r[kMatrices];
    if constexpr (kMatrices == 4) {
        if constexpr (kTranspose) cuda::ldmatrix_x4_trans(r, row);
        if constexpr (!kTranspose) cuda::ldmatrix_x4(r, row);
    } else {
        if constexpr (kTranspose) cuda::ldmatrix_x2_trans(r, row);
        if constexpr (!kTranspose) cuda::ldmatrix_x2(r, row);
    }
#pragma unroll
    for (int i = 0; i < kMatrices; ++i) out[i * 32 + lane] = r[i];
}

template <int kMatrices, bool kTranspose>
void record_load(Record& record, const std::string& name) {
    Words words(31);
    std::vector<uint32_t> order(32);
    for (uint32_t i = 0; i < 32; ++i) order[i] = i;
    for (uint32_t i = 31; i > 0; --i) std::swap(order[i], order[words.next() % (i + 1)]);
    const DeviceArray<uint32_t> source(words.next(32 * kRowWords));
    const DeviceArray<uint32_t> row_order(order);
    const DeviceArray<uint32_t> target(32 * kMatrices);
    cuda::launch(load<kMatrices, kTranspose>, 1, 32, 0, nullptr, source.data(), row_order.data(), target.data());
    record.bits(name, target.values());
}

}  // namespace

void record_matrices(Record& record) {
    record_load<4, false>(record, "ldmatrix.x4");
    record_load<4, true>(record, "ldmatrix.x4.trans");
    record_load<2, false>(record, "ldmatrix.x2");
    record_load<2, true>(record, "ldmatrix.x2.trans");
}

}  // namespace moek::conformance
