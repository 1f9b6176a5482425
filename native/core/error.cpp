#include "core/error.hpp"

#include <cstring>
#include <new>

namespace moek {
namespace {

// A plain array: it can be written after running out of memory and needs no destructor at thread exit.
constexpr size_t kLastErrorSize = 2048;
thread_local char t_last_error[kLastErrorSize] = "";

// Bytes of the longest prefix of text that fits in `room` bytes and does not end inside a UTF-8 character.
size_t prefix_length(const char* text, size_t length, size_t room) noexcept {
    if (length <= room) return length;
    size_t end = room;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    return end;
}

size_t copy_text(const char* text, char* buffer, size_t size) noexcept {
    const size_t length = prefix_length(text, std::strlen(text), size - 1);
    std::memcpy(buffer, text, length);
    buffer[length] = '\0';
    return length;
}

void set_last_error(const char* function, const char* message) noexcept {
    size_t used = copy_text(function, t_last_error, kLastErrorSize);
    used += copy_text(": ", t_last_error + used, kLastErrorSize - used);
    copy_text(message, t_last_error + used, kLastErrorSize - used);
}

}  // namespace

void set_last_error(const char* message) noexcept {
    copy_text(message, t_last_error, kLastErrorSize);
}

const char* last_error() noexcept {
    return t_last_error;
}

void detail::name_failure(const char* function) noexcept {
    char message[kLastErrorSize];
    copy_text(t_last_error, message, kLastErrorSize);
    set_last_error(function, message);
}

moek_status detail::translate_exception(const char* function) noexcept {
    try {
        throw;
    } catch (const Error& error) {
        set_last_error(function, error.what());
        return error.status();
    } catch (const std::bad_alloc&) {
        set_last_error(function, "the host ran out of memory");
        return MOEK_STATUS_CODE_OUT_OF_MEMORY;
    } catch (const std::exception& error) {
        set_last_error(function, error.what());
        return MOEK_STATUS_CODE_INTERNAL;
    } catch (...) {
        set_last_error(function, "an exception of unknown type");
        return MOEK_STATUS_CODE_INTERNAL;
    }
}

}  // namespace moek

const char* moek_status_name(moek_status status) {
    switch (status) {
        case MOEK_STATUS_CODE_OK:
            return "ok";
        case MOEK_STATUS_CODE_INVALID_ARGUMENT:
            return "invalid argument";
        case MOEK_STATUS_CODE_UNSUPPORTED:
            return "unsupported";
        case MOEK_STATUS_CODE_WORKSPACE_TOO_SMALL:
            return "workspace too small";
        case MOEK_STATUS_CODE_OUT_OF_MEMORY:
            return "out of memory";
        case MOEK_STATUS_CODE_BACKEND_UNAVAILABLE:
            return "backend unavailable";
        case MOEK_STATUS_CODE_DEVICE:
            return "device error";
        case MOEK_STATUS_CODE_NUMERIC:
            return "numeric error";
        case MOEK_STATUS_CODE_INTERNAL:
            return "internal error";
        default:
            return "unknown status";
    }
}

moek_status moek_last_error(char* buffer, uint64_t size) {
    // Does not set the last error when it fails: that would destroy what the caller is after.
    if (buffer == nullptr || size == 0) return MOEK_STATUS_CODE_INVALID_ARGUMENT;
    moek::copy_text(moek::last_error(), buffer, size < moek::kLastErrorSize ? size : moek::kLastErrorSize);
    return MOEK_STATUS_CODE_OK;
}
