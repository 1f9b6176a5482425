// Clusters: blocks that run at the same time and reach each other's shared memory. A launch that asks for none makes clusters
// of one block.
#pragma once

#include <cstdint>
#include <source_location>
#include <vector>

namespace moek::emulation {

struct Block;

struct Cluster {
    std::vector<Block*> blocks;  // by rank

    // Its barrier, which every thread first arrives at and then waits for.
    unsigned live = 0;  // threads that have not finished
    unsigned arrived = 0;
    unsigned generation = 0;
};

unsigned cluster_rank();
unsigned cluster_size();

// barrier.cluster.arrive.relaxed and barrier.cluster.wait. They order no memory accesses.
void cluster_arrive(std::source_location where = std::source_location::current());
void cluster_wait(std::source_location where = std::source_location::current());

// The place in the shared memory of the cluster's block `rank` that `address` has in this block's (mapa). Fails when there is no
// such block, or when it has finished: its memory belongs to the next one then.
void* cluster_address(void* address, unsigned rank, const char* operation, std::source_location where);

}  // namespace moek::emulation
