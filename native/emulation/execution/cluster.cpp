#include "emulation/execution/cluster.hpp"

#include <string>

#include "emulation/execution/report.hpp"
#include "emulation/execution/scheduler.hpp"
#include "emulation/execution/statistics.hpp"

namespace moek::emulation {

void Scheduler::release_cluster(Cluster& cluster) {
    cluster.arrived = 0;
    ++cluster.generation;
    note_progress();
    for (Block* block : cluster.blocks) {
        for (Warp& warp : block->warps) {
            warp.ready |= warp.at_cluster;
            warp.at_cluster = 0;
        }
    }
}

unsigned cluster_rank() {
    return Scheduler::instance().current().block->rank;
}

unsigned cluster_size() {
    return static_cast<unsigned>(Scheduler::instance().current().block->cluster->blocks.size());
}

void cluster_arrive(std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    scheduler.maybe_preempt();
    Fiber& fiber = scheduler.current();
    Cluster& cluster = *fiber.block->cluster;
    ++statistics().collectives;
    scheduler.leave_meeting(fiber);
    if (fiber.owes_cluster_wait) {
        scheduler.fail(cudaErrorLaunchFailure, where,
                       [] { return "barrier.cluster.arrive by a thread that has not waited since it arrived last"; });
    }
    fiber.owes_cluster_wait = true;
    fiber.cluster_generation = cluster.generation;
    if (++cluster.arrived == cluster.live) scheduler.release_cluster(cluster);
}

void cluster_wait(std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    scheduler.maybe_preempt();
    Fiber& fiber = scheduler.current();
    ++statistics().collectives;
    scheduler.leave_meeting(fiber);
    if (!fiber.owes_cluster_wait) {
        scheduler.fail(cudaErrorLaunchFailure, where,
                       [] { return "barrier.cluster.wait by a thread that has not arrived"; });
    }
    fiber.owes_cluster_wait = false;
    if (fiber.block->cluster->generation != fiber.cluster_generation) return;
    fiber.group->at_cluster |= fiber.bit();
    fiber.state = Fiber::State::kAtCluster;
    fiber.place = where;
    scheduler.wait();
}

void* cluster_address(void* address, unsigned rank, const char* operation, std::source_location where) {
    Scheduler& scheduler = Scheduler::instance();
    Block& own = *scheduler.current().block;
    const Cluster& cluster = *own.cluster;
    if (rank >= cluster.blocks.size()) {
        scheduler.fail(cudaErrorIllegalAddress, where, [&] {
            return std::string(operation) + ": block " + std::to_string(rank) + " of a cluster of " +
                   std::to_string(cluster.blocks.size());
        });
    }
    Block& other = *cluster.blocks[rank];
    if (other.live == 0) {
        scheduler.fail(cudaErrorIllegalAddress, where, [&] {
            return std::string(operation) + ": block " + std::to_string(rank) + " of the cluster has finished";
        });
    }
    return other.shared.counterpart(own.shared, address);
}

}  // namespace moek::emulation
