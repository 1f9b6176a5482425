#include "cpu/common/gemm.hpp"

#include "cpu/common/gemm_isa.hpp"
#include "cpu/common/gemm_pairs.hpp"

namespace moek::cpu {

int64_t gemm_scratch_bytes(const Context& context, bool f64) {
    return MOEK_SELECT_ISA(context.isa, gemm_task_scratch_bytes)(f64);
}

uint64_t gemm_packed_bytes(bool f64, int64_t N, int64_t K) {
    // What the forms with a small rank need at most, whatever the instruction set.
    constexpr int64_t kMostColumns = 32, kMostDepth = 64, kMostPadding = 64;
    if (N > kMostColumns && K > kMostDepth) return 0;
    constexpr uint64_t kTooMuch = uint64_t{1} << 60;
    const uint64_t columns = static_cast<uint64_t>(N) + kMostPadding;
    const uint64_t depth = static_cast<uint64_t>(K);
    if (depth == 0) return 0;
    if (columns > kTooMuch / 8 / depth) return kTooMuch;
    return columns * depth * (f64 ? 8 : 4);
}

bool gemm_fits_pairs(const Gemm& gemm) {
    const auto fits = [](const GemmOperand& operand) {
        return operand.dtype == MOEK_DTYPE_BF16 && operand.data != nullptr && operand.hook.apply == nullptr;
    };
    return !gemm.f64 && gemm.K > 0 && gemm.a.along_depth && fits(gemm.a) && fits(gemm.b);
}

void run_gemm(Context& context, const Gemm& gemm, ScratchSlots& scratch) {
#if defined(MOEK_HAVE_X86_ISAS)
    if (context.isa == MOEK_ISA_AVX512_BF16 && gemm_fits_pairs(gemm)) {
        return run_gemm(context, gemm, scratch, avx512_bf16::gemm_pairs_functions());
    }
#endif
    run_gemm(context, gemm, scratch,
             {MOEK_SELECT_ISA(context.isa, plan_gemm), MOEK_SELECT_ISA(context.isa, gemm_pack_task),
              MOEK_SELECT_ISA(context.isa, gemm_task)});
}

void run_gemm(Context& context, const Gemm& gemm, ScratchSlots& scratch, const GemmFunctions& functions) {
    if (gemm.M == 0 || gemm.N == 0) return;
    const GemmPlan plan = functions.plan(gemm);
    if (plan.pack_tasks > 0) {
        const double elements = static_cast<double>(gemm.N) * static_cast<double>(gemm.K);
        context.pool.parallel_for(plan.pack_tasks, elements, [&](int64_t index) { functions.pack(gemm, plan, index); });
    }
    // In terms of the pool's "simple operations" a vector product of many lanes counts as one.
    const double work = static_cast<double>(gemm.M) * static_cast<double>(gemm.N) * static_cast<double>(gemm.K) / 8;
    context.pool.parallel_for(plan.tasks(), work, [&](int64_t index) {
        const ScratchSlots::Lease lease(scratch);
        functions.task(gemm, plan, index, lease.data());
    });
}

}  // namespace moek::cpu
