// Errors inside the library are exceptions; none of them leaves it. Every C entry point runs its body through
// `guarded`, which turns an exception into a status and keeps its text for `moek_last_error`.
#pragma once

#include <exception>
#include <string>
#include <type_traits>
#include <utility>

#include "moekernels.h"

namespace moek {

class Error : public std::exception {
  public:
    Error(moek_status_code status, std::string message) : status_(status), message_(std::move(message)) {}

    moek_status_code status() const noexcept { return status_; }
    const std::string& message() const noexcept { return message_; }
    const char* what() const noexcept override { return message_.c_str(); }

  private:
    moek_status_code status_;
    std::string message_;
};

// The text of this thread's last failure. Setting it never throws: a text that cannot be stored is cut.
void set_last_error(const char* message) noexcept;
const char* last_error() noexcept;

namespace detail {
// Translates the exception in flight. `function` starts the text.
moek_status translate_exception(const char* function) noexcept;
// Puts `function` ahead of the text that a backend has set.
void name_failure(const char* function) noexcept;
}  // namespace detail

// Runs the body of the C function named `function`. The body returns nothing, or the status of a backend that has
// already set the text, without a function's name.
template <class Body>
moek_status guarded(const char* function, Body&& body) noexcept {
    try {
        if constexpr (std::is_void_v<decltype(body())>) {
            body();
            return MOEK_STATUS_CODE_OK;
        } else {
            const moek_status status = body();
            if (status != MOEK_STATUS_CODE_OK) detail::name_failure(function);
            return status;
        }
    } catch (...) {
        return detail::translate_exception(function);
    }
}

}  // namespace moek
