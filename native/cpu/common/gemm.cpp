#include "cpu/common/gemm.hpp"

#include "cpu/common/gemm_isa.hpp"

namespace moek::cpu {

int64_t gemm_scratch_bytes(const Context& context, bool f64) {
    return MOEK_SELECT_ISA(context.isa, gemm_task_scratch_bytes)(f64);
}

void run_gemm(Context& context, const Gemm& gemm, ScratchSlots& scratch) {
    if (gemm.M == 0 || gemm.N == 0) return;
    const GemmPlan plan = MOEK_SELECT_ISA(context.isa, plan_gemm)(gemm);
    const auto task = MOEK_SELECT_ISA(context.isa, gemm_task);
    // In terms of the pool's "simple operations" a vector product of many lanes counts as one.
    const double work = static_cast<double>(gemm.M) * static_cast<double>(gemm.N) * static_cast<double>(gemm.K) / 8;
    context.pool.parallel_for(plan.tasks(), work, [&](int64_t index) {
        const ScratchSlots::Lease lease(scratch);
        task(gemm, plan, index, lease.data());
    });
}

}  // namespace moek::cpu
