#include "cpu/common/gemm_isa.hpp"

#include "cpu/common/gemm_kernel.hpp"

namespace moek::cpu::MOEK_ISA_NAME {

int64_t gemm_task_scratch_bytes(bool f64) {
    return f64 ? kGemmScratchBytes<double> : kGemmScratchBytes<float>;
}

GemmPlan plan_gemm(const Gemm& gemm) {
    return gemm.f64 ? make_plan<double>(gemm) : make_plan<float>(gemm);
}

void gemm_pack_task(const Gemm& gemm, const GemmPlan& plan, int64_t index) {
    if (gemm.f64) {
        run_pack_task<double>(gemm, plan, index);
    } else {
        run_pack_task<float>(gemm, plan, index);
    }
}

void gemm_task(const Gemm& gemm, const GemmPlan& plan, int64_t task, void* scratch) {
    if (gemm.f64) {
        run_gemm_task<double>(gemm, plan, task, scratch);
    } else {
        run_gemm_task<float>(gemm, plan, task, scratch);
    }
}

}  // namespace moek::cpu::MOEK_ISA_NAME
