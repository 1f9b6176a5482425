// Barriers, fences and the end of a kernel by error.
#pragma once

#include <cstdint>
#include <source_location>

#include "emulation/execution/barrier.hpp"
#include "emulation/execution/failure.hpp"
#include "emulation/execution/order.hpp"
#include "emulation/execution/rendezvous.hpp"

inline void __syncthreads(std::source_location where = std::source_location::current()) {
    moek::emulation::wait_at_barrier(moek::emulation::BarrierOperation::kPlain, false, where);
}
inline int __syncthreads_count(int predicate, std::source_location where = std::source_location::current()) {
    return moek::emulation::wait_at_barrier(moek::emulation::BarrierOperation::kCount, predicate != 0, where);
}
inline int __syncthreads_and(int predicate, std::source_location where = std::source_location::current()) {
    return moek::emulation::wait_at_barrier(moek::emulation::BarrierOperation::kAnd, predicate != 0, where);
}
inline int __syncthreads_or(int predicate, std::source_location where = std::source_location::current()) {
    return moek::emulation::wait_at_barrier(moek::emulation::BarrierOperation::kOr, predicate != 0, where);
}

inline void __syncwarp(uint32_t mask = 0xFFFFFFFFu, std::source_location where = std::source_location::current()) {
    moek::emulation::sync_warp(mask, where);
}

inline void __threadfence() {
    moek::emulation::fence();
}
inline void __threadfence_block() {
    moek::emulation::fence();
}
inline void __threadfence_system() {
    moek::emulation::fence();
}

// Lets other threads run.
inline void __nanosleep(unsigned) {
    moek::emulation::spin();
}

[[noreturn]] inline void __trap(std::source_location where = std::source_location::current()) {
    moek::emulation::fail("__trap", where);
}
