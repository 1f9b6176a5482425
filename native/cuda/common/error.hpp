// Errors of the CUDA backend: exceptions inside, a status and a text for the core outside.
//
// Every function of the backend's table runs its body through `guarded`. `check` turns a failing CUDA call into an Error whose
// text names the call, CUDA's own name of the error, and for the errors that users meet what to do about them.
#pragma once

#include <cuda_runtime.h>

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "core/backend.hpp"

namespace moek::cuda {

class Error : public std::exception {
  public:
    Error(moek_status status, std::string message) : status_(status), message_(std::move(message)) {}

    moek_status status() const noexcept { return status_; }
    const char* what() const noexcept override { return message_.c_str(); }

  private:
    moek_status status_;
    std::string message_;
};

// What the core offers; set when the library is loaded.
void set_host(const moek_backend_host& host) noexcept;
const moek_backend_host& host() noexcept;

// "12.4" for 12040.
std::string version_text(int version);

// Throws when the driver is missing or older than this library's CUDA runtime can use.
void check_driver();

// Throws for anything but success; `call` names the function, such as "cudaMemsetAsync". An error that does not stick
// is taken off CUDA's own list, so that the next call does not report it again.
void check(cudaError_t result, const char* call);

[[noreturn]] void fail_unsupported(const std::string& message);

// Runs the body of a table function and hands an exception's text to the core.
template <class Body>
moek_status guarded(Body&& body) noexcept {
    try {
        body();
        return MOEK_STATUS_CODE_OK;
    } catch (const Error& error) {
        host().fail(error.what());
        return error.status();
    } catch (const std::bad_alloc&) {
        host().fail("the host ran out of memory");
        return MOEK_STATUS_CODE_OUT_OF_MEMORY;
    } catch (const std::exception& error) {
        host().fail(error.what());
        return MOEK_STATUS_CODE_INTERNAL;
    } catch (...) {
        host().fail("an exception of unknown type");
        return MOEK_STATUS_CODE_INTERNAL;
    }
}

}  // namespace moek::cuda
