#include "emulation/tensor_copy.hpp"

#include <string>

#include "emulation/execution/report.hpp"
#include "emulation/execution/sanitizers.hpp"
#include "emulation/execution/scheduler.hpp"
#include "emulation/execution/statistics.hpp"
#include "emulation/shared_memory.hpp"

namespace moek::emulation {
namespace {

constexpr const char* kName = "cp.async.bulk.tensor";

}  // namespace

// The copy's own thread makes it: what the copy reads and writes is ordered by its issue and by its barrier only.
void Scheduler::make_tensor_copy(unsigned i) {
    const PendingTensorCopy copy = tensor_copies_.at(i);
    [[maybe_unused]] void* const event = tensor_copies_.event(i);
    tensor_copies_.remove(i);
#if defined(MOEK_EMULATION_TSAN)
    constexpr unsigned kOrdersNothing = 1;
    __tsan_switch_to_fiber(copy.issuer->copier, kOrdersNothing);
#endif
    order_acquire(event);
    // The memory is that block's from its start on; the issuer knows of its own block only.
    order_acquire(copy.block->start_order());
    order_acquire(copy.block->former_end_order());
    copy.make(copy);
    order_release(copy.barrier->phase_order());
#if defined(MOEK_EMULATION_TSAN)
    __tsan_switch_to_fiber(current().strand.identity, kOrdersNothing);
#endif
    count_bytes(*copy.barrier, -static_cast<int>(copy.view.box_bytes()), {});
    settle(*copy.block, *copy.barrier);
}

void Scheduler::start_tensor_copy(const PendingTensorCopy& copy) {
    if (tensor_copies_.full()) make_tensor_copy(0);
    order_release(tensor_copies_.add(copy));
    for (uint32_t i = 0; i < copy.view.box_bytes(); ++i) copy.target[i] = 0xFF;
    if (coin()) make_tensor_copy(tensor_copies_.count() - 1);
}

void issue_tensor_copy(void* target, const void* map, int x, int y, void* barrier, unsigned blocks,
                       void (*make)(const PendingTensorCopy&), std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    scheduler.maybe_preempt();
    Block& own = *scheduler.current().block;
    PendingTensorCopy copy = {};
    if (!read_tensor_map(map, copy.view)) {
        scheduler.fail(cudaErrorIllegalInstruction, where,
                       [] { return std::string(kName) + ": the tensor map was not made by cuTensorMapEncodeTiled"; });
    }
    check_shared(target, copy.view.box_bytes(), 1, kName, where);
    if (own.shared.alignment_of(target) < copy.view.alignment()) {
        scheduler.fail(cudaErrorMisalignedAddress, where, [&] {
            return std::string(kName) + ": the target is not sure to be aligned to " +
                   std::to_string(copy.view.alignment()) + " bytes, as the map's swizzle of " +
                   std::to_string(copy.view.swizzle_bytes) + " bytes asks for";
        });
    }
    if (blocks >> own.cluster->blocks.size() != 0) {
        scheduler.fail(cudaErrorIllegalInstruction, where, [&] {
            return std::string(kName) + ": the mask names blocks beyond the cluster's " +
                   std::to_string(own.cluster->blocks.size());
        });
    }
    copy.x = x;
    copy.y = y;
    copy.make = make;
    copy.issuer = &own;
    ++statistics().tensor_copies;
    statistics().tensor_bytes += copy.view.box_bytes();
    const unsigned mask = blocks == 0 ? 1u << own.rank : blocks;
    for (unsigned rank = 0; rank < own.cluster->blocks.size(); ++rank) {
        if ((mask >> rank & 1u) == 0) continue;
        copy.block = own.cluster->blocks[rank];
        copy.target = static_cast<unsigned char*>(cluster_address(target, rank, kName, where));
        copy.barrier = &usable_mbarrier(*copy.block, cluster_address(barrier, rank, kName, where), kName, where);
        scheduler.start_tensor_copy(copy);
    }
}

}  // namespace moek::emulation
