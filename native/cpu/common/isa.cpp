#include "cpu/common/isa.hpp"

#if defined(MOEK_HAVE_X86_ISAS) && defined(_MSC_VER) && !defined(__clang__)
#include <immintrin.h>
#include <intrin.h>
#elif defined(MOEK_HAVE_X86_ISAS)
#include <cpuid.h>
#endif

#include "core/check.hpp"

namespace moek::cpu {
namespace {

#if defined(MOEK_HAVE_X86_ISAS) && defined(_MSC_VER) && !defined(__clang__)

struct Cpuid {
    int registers[4];
    Cpuid(int leaf, int subleaf) { __cpuidex(registers, leaf, subleaf); }
    bool eax(int bit) const { return (registers[0] >> bit) & 1; }
    bool ebx(int bit) const { return (registers[1] >> bit) & 1; }
    bool ecx(int bit) const { return (registers[2] >> bit) & 1; }
};

// The operating system saves these register sets: XMM and YMM, and for AVX-512 also masks and ZMM.
bool os_saves(unsigned long long mask) {
    return Cpuid(1, 0).ecx(27) && (_xgetbv(0) & mask) == mask;
}

bool has_avx2() {
    const Cpuid features(1, 0);
    return Cpuid(0, 0).registers[0] >= 7 && os_saves(0x6) && features.ecx(12) && features.ecx(29) && Cpuid(7, 0).ebx(5);
}

bool has_avx512() {
    if (!has_avx2() || !os_saves(0xE6)) return false;
    const Cpuid extended(7, 0);
    return extended.ebx(16) && extended.ebx(17) && extended.ebx(30) && extended.ebx(31);
}

bool has_avx512_bf16() {
    return has_avx512() && Cpuid(7, 0).registers[0] >= 1 && Cpuid(7, 1).eax(5);
}

#elif defined(MOEK_HAVE_X86_ISAS)

// The compiler's run-time library asks the operating system's part (XGETBV) too.
bool has_avx2() {
    // __builtin_cpu_supports knows F16C only in newer compilers.
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    const bool has_f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c;
}

bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512_bf16() {
    constexpr unsigned kBit = 1u << 5;
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return has_avx512() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & kBit) != 0;
}

#endif

bool is_available(int32_t isa) {
    switch (isa) {
        case MOEK_ISA_SCALAR:
            return true;
#if defined(MOEK_HAVE_X86_ISAS)
        case MOEK_ISA_AVX2:
            return has_avx2();
        case MOEK_ISA_AVX512:
            return has_avx512();
        case MOEK_ISA_AVX512_BF16:
            return has_avx512_bf16();
#elif defined(__aarch64__) || defined(_M_ARM64)
        case MOEK_ISA_NEON:
            return true;
#endif
        default:
            return false;
    }
}

}  // namespace

int32_t best_isa() {
    for (int32_t isa : {MOEK_ISA_NEON, MOEK_ISA_AVX512_BF16, MOEK_ISA_AVX512, MOEK_ISA_AVX2}) {
        if (is_available(isa)) return isa;
    }
    return MOEK_ISA_SCALAR;
}

int32_t resolve_isa(int32_t requested) {
    if (requested == MOEK_ISA_AUTO) return best_isa();
    if (!is_available(requested)) {
        fail_argument("isa", std::to_string(requested),
                      "an instruction set that this processor has; the best is " + std::to_string(best_isa()));
    }
    return requested;
}

}  // namespace moek::cpu
