#include "emulation/execution/report.hpp"

#include <cstdio>
#include <cstring>

namespace moek::emulation {
namespace {

std::string text_of(const uint3& index) {
    return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
}

// "0-6,8" for a set of lanes.
std::string lanes_text(uint32_t lanes) {
    std::string text;
    for (int lane = 0; lane < 32; ++lane) {
        if ((lanes >> lane & 1u) == 0) continue;
        int last = lane;
        while (last < 31 && (lanes >> (last + 1) & 1u) != 0) ++last;
        if (!text.empty()) text += ",";
        text += std::to_string(lane);
        if (last > lane) text += "-" + std::to_string(last);
        lane = last;
    }
    return text;
}

std::string thread_text(const Fiber& fiber) {
    return "thread " + text_of(fiber.thread_index);
}

std::string state_text(const Fiber& fiber) {
    switch (fiber.state) {
        case Fiber::State::kAtBarrier:
            return std::string("waits in ") + name_of(fiber.block->barrier_operation) + source_text(fiber.place);
        case Fiber::State::kAtMeeting: {
            char mask[16];
            std::snprintf(mask, sizeof(mask), "0x%08x", fiber.held->mask);
            return std::string("waits in ") + name_of(fiber.held->operation) + " with mask " + mask +
                   source_text(fiber.place);
        }
        case Fiber::State::kAtCluster: {
            const Cluster& cluster = *fiber.block->cluster;
            return "waits in barrier.cluster.wait" + source_text(fiber.place) + " for " +
                   std::to_string(cluster.live - cluster.arrived) + " threads of the cluster";
        }
        case Fiber::State::kAtMbarrier:
            return "waits in mbarrier.try_wait" + source_text(fiber.place) + " for " +
                   std::to_string(fiber.awaited->missing) + " arrivals and " + std::to_string(fiber.awaited->bytes) +
                   " bytes";
        case Fiber::State::kFinished:
            return "has finished";
        default:
            return "runs";
    }
}

// A thread that holds `fiber` up.
const Fiber* missing_partner(const Fiber& fiber) {
    if (fiber.state == Fiber::State::kAtMeeting) {
        const uint32_t missing = fiber.held->mask & ~fiber.held->arrived;
        for (int lane = 0; lane < 32; ++lane) {
            if ((missing >> lane & 1u) != 0) return fiber.group->lanes[lane];
        }
    }
    for (const Warp& warp : fiber.block->warps) {
        for (int lane = 0; lane < 32; ++lane) {
            if ((warp.existing >> lane & 1u) == 0) continue;
            if (warp.lanes[lane]->state == Fiber::State::kAtMeeting) return warp.lanes[lane];
        }
    }
    return nullptr;
}

}  // namespace

const char* name_of(WarpOperation operation) {
    switch (operation) {
        case WarpOperation::kSyncWarp:
            return "__syncwarp";
        case WarpOperation::kShuffle:
            return "__shfl_sync";
        case WarpOperation::kShuffleUp:
            return "__shfl_up_sync";
        case WarpOperation::kShuffleDown:
            return "__shfl_down_sync";
        case WarpOperation::kShuffleXor:
            return "__shfl_xor_sync";
        case WarpOperation::kBallot:
            return "__ballot_sync";
        case WarpOperation::kAny:
            return "__any_sync";
        case WarpOperation::kAll:
            return "__all_sync";
        case WarpOperation::kMatchAny:
            return "__match_any_sync";
        case WarpOperation::kMatchAll:
            return "__match_all_sync";
        case WarpOperation::kReduceAdd:
            return "__reduce_add_sync";
        case WarpOperation::kReduceMin:
            return "__reduce_min_sync";
        case WarpOperation::kReduceMax:
            return "__reduce_max_sync";
        case WarpOperation::kReduceAnd:
            return "__reduce_and_sync";
        case WarpOperation::kReduceOr:
            return "__reduce_or_sync";
        case WarpOperation::kReduceXor:
            return "__reduce_xor_sync";
        case WarpOperation::kLoadMatrix:
            return "ldmatrix";
        case WarpOperation::kMultiply:
            return "mma";
    }
    return "?";
}

const char* name_of(BarrierOperation operation) {
    switch (operation) {
        case BarrierOperation::kPlain:
            return "__syncthreads";
        case BarrierOperation::kCount:
            return "__syncthreads_count";
        case BarrierOperation::kAnd:
            return "__syncthreads_and";
        case BarrierOperation::kOr:
            return "__syncthreads_or";
    }
    return "?";
}

std::string source_text(const std::source_location& where) {
    if (where.line() == 0) return "";
    const char* name = std::strrchr(where.file_name(), '/');
    return std::string(" (") + (name == nullptr ? where.file_name() : name + 1) + ":" + std::to_string(where.line()) +
           ")";
}

bool same_place(const std::source_location& a, const std::source_location& b) {
    return a.line() == b.line() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

std::string place_of(const Fiber& fiber) {
    return "block " + text_of(fiber.block_index) + " " + thread_text(fiber);
}

std::string deadlock_text(const std::vector<Warp*>& warps) {
    for (const Warp* warp : warps) {
        for (int lane = 0; lane < 32; ++lane) {
            if ((warp->existing >> lane & 1u) == 0) continue;
            const Fiber* fiber = warp->lanes[lane];
            if (fiber->state == Fiber::State::kFinished) continue;
            std::string text = "deadlock: " + place_of(*fiber) + " " + state_text(*fiber);
            if (fiber->state == Fiber::State::kAtMeeting) {
                text += " for lanes " + lanes_text(fiber->held->mask & ~fiber->held->arrived);
            }
            const Fiber* partner = missing_partner(*fiber);
            if (partner != nullptr) text += "; " + thread_text(*partner) + " " + state_text(*partner);
            return text;
        }
    }
    return "";
}

}  // namespace moek::emulation
