// The context: a backend, its state and where messages go.
#pragma once

#include <string>

#include "core/backend.hpp"
#include "core/check.hpp"
#include "core/error.hpp"
#include "moekernels.h"

namespace moek {

class Logger {
  public:
    Logger(moek_log_callback callback, void* user, int32_t least_level)
        : callback_(callback), user_(user), least_level_(least_level) {}

    bool enabled(int32_t level) const noexcept { return callback_ != nullptr && level >= least_level_; }
    void write(int32_t level, const std::string& message) const {
        if (enabled(level)) callback_(level, message.c_str(), message.size(), user_);
    }

  private:
    moek_log_callback callback_;
    void* user_;
    int32_t least_level_;
};

// Fails unless the backend offers the op.
template <class Function>
Function offered(Function slot) {
    if (slot == nullptr) throw Error(MOEK_STATUS_CODE_UNSUPPORTED, "this backend does not offer the op");
    return slot;
}

}  // namespace moek

struct moek_context {
    moek_context(const moek_backend& chosen_backend, const moek_context_options& options);
    ~moek_context();
    moek_context(const moek_context&) = delete;
    moek_context& operator=(const moek_context&) = delete;

    const moek_backend& backend;
    moek::Logger logger;
    moek_context_info info = {};
    void* state = nullptr;
};

namespace moek {

// The CPU has no streams.
void check_stream(const moek_context& context, const void* stream);

// The end of every workspace query: `resolved` goes to the backend.
template <class Args>
moek_status query_workspace(moek_status (*slot)(void*, const Args*, uint64_t*), const moek_context& context,
                            const Args& resolved, uint64_t* out_bytes) {
    uint64_t bytes = 0;
    const moek_status status = offered(slot)(context.state, &resolved, &bytes);
    if (status == MOEK_STATUS_CODE_OK) *out_bytes = bytes;
    return status;
}

// The end of every op's entry point: checks stream, workspace and overlaps, then `resolved` goes to the backend.
template <class Args>
moek_status run_op(moek_status (*workspace_slot)(void*, const Args*, uint64_t*),
                   moek_status (*slot)(void*, const Args*, void*, void*), const moek_context& context,
                   const Args& resolved, Tensors& tensors, void* workspace, uint64_t workspace_bytes, void* stream) {
    check_stream(context, stream);
    uint64_t needed = 0;
    const moek_status status = query_workspace(workspace_slot, context, resolved, &needed);
    if (status != MOEK_STATUS_CODE_OK) return status;
    check_workspace(workspace, workspace_bytes, needed);
    if (needed != 0) tensors.workspace(workspace, needed);
    tensors.check_overlaps();
    return offered(slot)(context.state, &resolved, workspace, stream);
}

}  // namespace moek
