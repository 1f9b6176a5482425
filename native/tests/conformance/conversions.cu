// cvt: between float and the storage types, and to tf32.
#include "cuda/common/element.hpp"
#include "cuda/common/mma.hpp"
#include "tests/conformance/cases.hpp"
#include "tests/conformance/device.hpp"

namespace moek::conformance {
namespace {

constexpr int kThreads = 128;

__global__ void widen_f16(uint32_t* out) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = __float_as_uint(cuda::to_float(cuda::float16{static_cast<uint16_t>(i)}));
}

enum class Narrow { kBf16, kF16, kBf16Pair, kF16Pair, kTf32 };

template <Narrow kHow>
__global__ void narrow(const uint32_t* in, uint32_t* out, int count) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count) return;
    const float value = __uint_as_float(in[i]);
    const float next = __uint_as_float(in[(i + 1) % count]);
    if constexpr (kHow == Narrow::kBf16) out[i] = cuda::from_float<cuda::bfloat16>(value).bits;
    if constexpr (kHow == Narrow::kF16) out[i] = cuda::from_float<cuda::float16>(value).bits;
    if constexpr (kHow == Narrow::kBf16Pair) out[i] = cuda::pack2<cuda::bfloat16>(value, next);
    if constexpr (kHow == Narrow::kF16Pair) out[i] = cuda::pack2<cuda::float16>(value, next);
    if constexpr (kHow == Narrow::kTf32) out[i] = cuda::to_tf32(value);
}

template <Narrow kHow>
void record_narrow(Record& record, const std::string& name) {
    const auto run = [](const std::vector<uint32_t>& in) {
        const DeviceArray<uint32_t> source(in);
        const DeviceArray<uint32_t> target(in.size());
        const int count = static_cast<int>(in.size());
        cuda::launch(narrow<kHow>, static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0, nullptr,
                     source.data(), target.data(), count);
        return target.values();
    };
    record.bits(name + ".special", run(special_floats()));
    // Any bits, and around 1, where 16-bit types and tf32 have most of their values.
    record.folded(name + ".any", run(Words(11).next(1 << 18)));
    std::vector<uint32_t> usual = Words(12).next(1 << 18);
    for (uint32_t& word : usual) word = (word & 0x87FFFFFFu) + 0x38000000u;
    record.folded(name + ".usual", run(usual));
}

}  // namespace

void record_conversions(Record& record) {
    const DeviceArray<uint32_t> wide(65536);
    cuda::launch(widen_f16, 65536 / kThreads, kThreads, 0, nullptr, wide.data());
    record.folded("cvt.f32.f16.all", wide.values());
    record_narrow<Narrow::kBf16>(record, "cvt.rn.bf16.f32");
    record_narrow<Narrow::kF16>(record, "cvt.rn.f16.f32");
    record_narrow<Narrow::kBf16Pair>(record, "cvt.rn.bf16x2.f32");
    record_narrow<Narrow::kF16Pair>(record, "cvt.rn.f16x2.f32");
    record_narrow<Narrow::kTf32>(record, "cvt.rna.tf32.f32");
}

}  // namespace moek::conformance
