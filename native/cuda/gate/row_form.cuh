// From a row's form (core/gate/cuda_plan.hpp) to the types that a kernel is made for.
#pragma once

#include "core/gate/cuda_plan.hpp"
#include "cuda/gate/team.cuh"

namespace moek::cuda {

template <class TeamType, int kElements>
struct RowForm {
    using Team = TeamType;
    static constexpr int kPerThread = kElements;
};

// body(RowForm<...>{}) for the form, on the host.
template <class Body>
void with_row_form(const CudaGateRowForm& form, Body&& body) {
    using Block = BlockTeam<kCudaGateBlockThreads>;
    switch (form.threads * 100 + form.per_thread) {
        case 401:
            return body(RowForm<WarpTeam<4>, 1>{});
        case 801:
            return body(RowForm<WarpTeam<8>, 1>{});
        case 1601:
            return body(RowForm<WarpTeam<16>, 1>{});
        case 3201:
            return body(RowForm<WarpTeam<32>, 1>{});
        case 3202:
            return body(RowForm<WarpTeam<32>, 2>{});
        case 3204:
            return body(RowForm<WarpTeam<32>, 4>{});
        case 3208:
            return body(RowForm<WarpTeam<32>, 8>{});
        case 3216:
            return body(RowForm<WarpTeam<32>, 16>{});
        case kCudaGateBlockThreads * 100 + 4:
            return body(RowForm<Block, 4>{});
        case kCudaGateBlockThreads * 100 + 8:
            return body(RowForm<Block, 8>{});
        default:
            return body(RowForm<Block, 16>{});
    }
}

}  // namespace moek::cuda
