// cp.async: every size with every number of valid bytes, and groups that are waited for in order.
#include "cuda/common/cp_async.hpp"
#include "tests/conformance/cases.hpp"
#include "tests/conformance/device.hpp"

namespace moek::conformance {
namespace {

// Lane i copies kBytes at its place, of which i % (kBytes + 1) are valid.
template <int kBytes>
__global__ void copy(const uint32_t* source, uint32_t* out) {
    MOEK_SHARED(uint32_t, buffer, 32 * kBytes / 4);
    const int lane = static_cast<int>(threadIdx.x);
    const int place = lane * kBytes / 4;
    for (int i = 0; i < kBytes / 4; ++i) buffer[place + i] = 0xAAAAAAAAu;
    cuda::cp_async<kBytes>(buffer + place, source + place, lane % (kBytes + 1));
    cuda::cp_async_commit();
    cuda::cp_async_wait<0>();
    for (int i = 0; i < kBytes / 4; ++i) out[place + i] = buffer[place + i];
}

template <int kBytes>
void record_copy(Record& record) {
    const DeviceArray<uint32_t> source(Words(21).next(32 * kBytes / 4));
    const DeviceArray<uint32_t> target(32 * kBytes / 4);
    cuda::launch(copy<kBytes>, 1, 32, 0, nullptr, source.data(), target.data());
    record.bits("cp.async." + std::to_string(kBytes), target.values());
}

constexpr int kGroups = 3;

// One group a word and lane. Word i is read as soon as it has to be there; those that are still under way are not looked at.
__global__ void copy_groups(const uint32_t* source, uint32_t* out) {
    MOEK_SHARED(uint32_t, buffer, 32 * kGroups);
    const int lane = static_cast<int>(threadIdx.x);
    for (int i = 0; i < kGroups; ++i) {
        cuda::cp_async<4>(buffer + 32 * i + lane, source + 32 * i + lane, 4);
        cuda::cp_async_commit();
    }
    cuda::cp_async_wait<2>();
    out[lane] = buffer[lane];
    cuda::cp_async_wait<1>();
    out[32 + lane] = buffer[32 + lane];
    cuda::cp_async_wait<0>();
    out[64 + lane] = buffer[64 + lane];
}

void record_groups(Record& record) {
    const DeviceArray<uint32_t> source(Words(22).next(32 * kGroups));
    const DeviceArray<uint32_t> target(32 * kGroups);
    cuda::launch(copy_groups, 1, 32, 0, nullptr, source.data(), target.data());
    record.bits("cp.async.wait_group", target.values());
}

}  // namespace

void record_copies(Record& record) {
    record_copy<4>(record);
    record_copy<8>(record);
    record_copy<16>(record);
    record_groups(record);
}

}  // namespace moek::conformance
