// The parts of gemm.hpp that exist once per instruction set.
#pragma once

#include "cpu/common/gemm.hpp"
#include "cpu/common/isa.hpp"

namespace moek::cpu {

MOEK_DECLARE_PER_ISA(int64_t gemm_task_scratch_bytes(bool f64); GemmPlan plan_gemm(const Gemm& gemm);
                     void gemm_pack_task(const Gemm& gemm, const GemmPlan& plan, int64_t index);
                     void gemm_task(const Gemm& gemm, const GemmPlan& plan, int64_t task, void* scratch);)

}  // namespace moek::cpu
