// Functions of one thread: those whose bits are defined, and the approximations.
#include <cmath>

#include "cuda/common/philox.hpp"
#include "tests/conformance/cases.hpp"
#include "tests/conformance/device.hpp"

namespace moek::conformance {
namespace {

constexpr int kThreads = 128;

enum class Integer { kHigh, kBits, kBytes, kShifts, kPhilox };

template <Integer kWhich>
__global__ void integer(const uint32_t* in, uint32_t* out, int count) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count) return;
    const uint32_t a = in[i];
    const uint32_t b = in[(i + 1) % count];
    const uint32_t c = in[(i + 2) % count];
    if constexpr (kWhich == Integer::kHigh) {
        out[i] = __umulhi(a, b) ^ static_cast<uint32_t>(__mulhi(static_cast<int>(a), static_cast<int>(c)));
    }
    if constexpr (kWhich == Integer::kBits) {
        out[i] = static_cast<uint32_t>(__popc(a) + 64 * __clz(static_cast<int>(a >> (b % 32))) +
                                       4096 * __ffs(static_cast<int>(a << (b % 32)))) ^
                 __brev(c);
    }
    if constexpr (kWhich == Integer::kBytes) out[i] = __byte_perm(a, b, c);
    if constexpr (kWhich == Integer::kShifts) out[i] = __funnelshift_l(a, b, c) ^ 3u * __funnelshift_r(a, b, c);
    if constexpr (kWhich == Integer::kPhilox) {
        const uint4 words = cuda::philox4x32_10(make_uint4(a, b, c, a ^ b), b, c);
        out[i] = words.x + 3 * words.y + 5 * words.z + 7 * words.w;
    }
}

template <Integer kWhich>
void record_integer(Record& record, const std::string& name) {
    const DeviceArray<uint32_t> in(Words(61).next(1 << 14));
    const DeviceArray<uint32_t> out(in.size());
    const int count = static_cast<int>(in.size());
    cuda::launch(integer<kWhich>, static_cast<unsigned>(count / kThreads), kThreads, 0, nullptr, in.data(), out.data(),
                 count);
    record.folded(name, out.values());
}

enum class Float { kMaximum, kMinimum, kSum, kProduct, kFused, kQuotient, kRoot, kNearest, kTowardsZero, kUnsigned };

template <Float kWhich>
__global__ void exact_float(const uint32_t* in, uint32_t* out, int count) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count) return;
    const float a = __uint_as_float(in[i]);
    const float b = __uint_as_float(in[(i + 1) % count]);
    const float c = __uint_as_float(in[(i + 2) % count]);
    float result = 0;
    if constexpr (kWhich == Float::kMaximum) result = fmaxf(a, b);
    if constexpr (kWhich == Float::kMinimum) result = fminf(a, b);
    if constexpr (kWhich == Float::kSum) result = __fadd_rn(a, b);
    if constexpr (kWhich == Float::kProduct) result = __fmul_rn(a, b);
    if constexpr (kWhich == Float::kFused) result = __fmaf_rn(a, b, c);
    if constexpr (kWhich == Float::kQuotient) result = a / b;
    if constexpr (kWhich == Float::kRoot) result = sqrtf(a);
    // A NaN is a NaN: its bits are the device's own affair.
    out[i] = result != result ? 0x7FFFFFFFu : __float_as_uint(result);
    if constexpr (kWhich == Float::kNearest) out[i] = static_cast<uint32_t>(__float2int_rn(a));
    if constexpr (kWhich == Float::kTowardsZero) out[i] = static_cast<uint32_t>(__float2int_rz(a));
    if constexpr (kWhich == Float::kUnsigned) out[i] = __float2uint_rn(a);
}

template <Float kWhich>
void record_float(Record& record, const std::string& name) {
    // Zeros of both signs never meet: which of them is the larger is not defined.
    std::vector<uint32_t> values = Words(62).next(1 << 14);
    const std::vector<uint32_t> special = special_floats();
    for (size_t i = 0; i < special.size(); ++i) values[3 * i] = special[i];
    const DeviceArray<uint32_t> in(values);
    const DeviceArray<uint32_t> out(values.size());
    const int count = static_cast<int>(values.size());
    cuda::launch(exact_float<kWhich>, static_cast<unsigned>(count / kThreads), kThreads, 0, nullptr, in.data(),
                 out.data(), count);
    record.folded(name, out.values());
}

enum class Approximation { kExp, kLog, kFastExp, kFastLog, kFastQuotient, kReciprocalRoot };

template <Approximation kWhich>
__global__ void approximate(const float* in, float* out, int count) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count) return;
    const float a = in[i];
    if constexpr (kWhich == Approximation::kExp) out[i] = expf(a);
    if constexpr (kWhich == Approximation::kFastExp) out[i] = __expf(a);
    if constexpr (kWhich == Approximation::kLog) out[i] = logf(a);
    if constexpr (kWhich == Approximation::kFastLog) out[i] = __logf(a);
    if constexpr (kWhich == Approximation::kFastQuotient) out[i] = __fdividef(a, in[(i + 1) % count]);
    if constexpr (kWhich == Approximation::kReciprocalRoot) out[i] = rsqrtf(a);
}

// `tolerance(x, y)` is what a result y at x may be off.
template <Approximation kWhich, class Tolerance>
void record_approximation(Record& record, const std::string& name, float low, float high, Tolerance tolerance) {
    Words words(63);
    std::vector<float> values(512);
    for (float& value : values) value = low + (high - low) * (0.5f + 0.5f * words.fraction());
    const DeviceArray<float> in(values);
    const DeviceArray<float> out(values.size());
    const int count = static_cast<int>(values.size());
    cuda::launch(approximate<kWhich>, static_cast<unsigned>(count / kThreads), kThreads, 0, nullptr, in.data(),
                 out.data(), count);
    const std::vector<float> results = out.values();
    std::vector<double> tolerances;
    for (size_t i = 0; i < results.size(); ++i) {
        tolerances.push_back(tolerance(static_cast<double>(values[i]), std::fabs(static_cast<double>(results[i]))));
    }
    record.near(name, results, std::move(tolerances));
}

}  // namespace

// Tolerances are the errors that CUDA's manual states, on either side.
void record_arithmetic(Record& record) {
    record_integer<Integer::kHigh>(record, "mul.hi");
    record_integer<Integer::kBits>(record, "popc_clz_ffs_brev");
    record_integer<Integer::kBytes>(record, "prmt");
    record_integer<Integer::kShifts>(record, "shf");
    record_integer<Integer::kPhilox>(record, "philox4x32_10");
    record_float<Float::kMaximum>(record, "max.f32");
    record_float<Float::kMinimum>(record, "min.f32");
    record_float<Float::kSum>(record, "add.rn.f32");
    record_float<Float::kProduct>(record, "mul.rn.f32");
    record_float<Float::kFused>(record, "fma.rn.f32");
    record_float<Float::kQuotient>(record, "div.rn.f32");
    record_float<Float::kRoot>(record, "sqrt.rn.f32");
    record_float<Float::kNearest>(record, "cvt.rni.s32.f32");
    record_float<Float::kTowardsZero>(record, "cvt.rzi.s32.f32");
    record_float<Float::kUnsigned>(record, "cvt.rni.u32.f32");
    record_approximation<Approximation::kExp>(record, "expf", -80, 80, [](double, double y) { return y * 0x1p-22; });
    record_approximation<Approximation::kFastExp>(
        record, "__expf", -80, 80, [](double x, double y) { return y * 0x1p-22 * (2 + 1.16 * std::fabs(x)); });
    record_approximation<Approximation::kLog>(record, "logf", 0, 100, [](double, double y) { return y * 0x1p-22; });
    record_approximation<Approximation::kFastLog>(record, "__logf", 0, 100,
                                                  [](double, double y) { return 0x1p-20 + y * 0x1p-21; });
    record_approximation<Approximation::kFastQuotient>(record, "__fdividef", 0, 100,
                                                       [](double, double y) { return y * 0x1p-21; });
    record_approximation<Approximation::kReciprocalRoot>(record, "rsqrtf", 0, 100,
                                                         [](double, double y) { return y * 0x1p-21; });
}

}  // namespace moek::conformance
