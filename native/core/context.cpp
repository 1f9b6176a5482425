#include "core/context.hpp"

#include <memory>

#include "core/check.hpp"

namespace {

void log_from_backend(void* sink, int32_t level, const char* message) {
    static_cast<const moek::Logger*>(sink)->write(level, message);
}

moek_context_options checked_options(const moek_context_options* given) {
    if (given == nullptr) {
        moek_context_options defaults = {};
        defaults.struct_size = sizeof(defaults);
        return defaults;
    }
    const moek_context_options options = moek::read_struct("options", given);
    moek::check_enum("device_type", options.device_type, 2, "moek_device_type");
    moek::check_range("device_index", options.device_index, 0, INT32_MAX);
    moek::check_range("thread_count", options.thread_count, 0, 4096);
    moek::check_enum("isa", options.isa, 6, "moek_isa");
    if (options.device_type != MOEK_DEVICE_TYPE_CPU) {
        moek::check_null("parallel", reinterpret_cast<const void*>(options.parallel), "on a GPU");
    }
    moek::check_enum("log_level", options.log_level, 5, "moek_log_level");
    moek::check_reserved(options.reserved);
    return options;
}

const char* device_type_name(int32_t device_type) {
    return device_type == MOEK_DEVICE_TYPE_CPU ? "cpu" : "cuda";
}

const char* isa_name(int32_t isa) {
    switch (isa) {
        case MOEK_ISA_SCALAR:
            return "scalar";
        case MOEK_ISA_AVX2:
            return "avx2";
        case MOEK_ISA_AVX512:
            return "avx512";
        case MOEK_ISA_NEON:
            return "neon";
        case MOEK_ISA_AVX512_BF16:
            return "avx512_bf16";
        default:
            return "none";
    }
}

void log_creation(const moek_context& context) {
    if (!context.logger.enabled(MOEK_LOG_LEVEL_DEBUG)) return;
    const moek_context_info& info = context.info;
    context.logger.write(MOEK_LOG_LEVEL_DEBUG, std::string("context on ") + device_type_name(info.device_type) + ":" +
                                                   std::to_string(info.device_index) + ", threads=" +
                                                   std::to_string(info.thread_count) + ", isa=" + isa_name(info.isa));
}

// The index has been checked.
moek_status query_device(const moek_backend& backend, int32_t device_type, int32_t device_index,
                         moek_device_info* out_info) {
    moek_device_info info = {};
    info.struct_size = sizeof(info);
    info.device_type = device_type;
    info.device_index = device_index;
    const moek_status status = backend.device_query(device_index, &info);
    if (status == MOEK_STATUS_CODE_OK) moek::write_struct("out_info", info, out_info);
    return status;
}

}  // namespace

moek_context::moek_context(const moek_backend& chosen_backend, const moek_context_options& options)
    : backend(chosen_backend), logger(options.log, options.log_user, options.log_level) {
    info.struct_size = sizeof(info);
    info.device_type = options.device_type;
    info.device_index = options.device_index;
    const moek_status status = backend.state_create(&options, log_from_backend, &logger, &info, &state);
    if (status != MOEK_STATUS_CODE_OK) {
        throw moek::Error(static_cast<moek_status_code>(status), moek::last_error());
    }
}

moek_context::~moek_context() {
    if (state != nullptr) backend.state_destroy(state);
}

void moek::check_stream(const moek_context& context, const void* stream) {
    if (context.info.device_type == MOEK_DEVICE_TYPE_CPU) check_null("stream", stream, "on the CPU");
}

moek_status moek_context_create(const moek_context_options* options, moek_context** out_context) {
    return moek::guarded("moek_context_create", [&] {
        moek::check_not_null("out_context", out_context);
        *out_context = nullptr;
        const moek_context_options checked = checked_options(options);
        const moek_backend& backend = moek::backend_of(checked.device_type, checked.cuda_library);
        auto context = std::make_unique<moek_context>(backend, checked);
        log_creation(*context);
        *out_context = context.release();
    });
}

moek_status moek_context_destroy(moek_context* context) {
    return moek::guarded("moek_context_destroy", [&] { delete context; });
}

moek_status moek_context_query(const moek_context* context, moek_context_info* out_info) {
    return moek::guarded("moek_context_query", [&] {
        moek::check_not_null("context", context);
        moek::write_struct("out_info", context->info, out_info);
    });
}

moek_status moek_context_device_query(const moek_context* context, moek_device_info* out_info) {
    return moek::guarded("moek_context_device_query", [&] {
        moek::check_not_null("context", context);
        moek::check_not_null("out_info", out_info);
        return query_device(context->backend, context->info.device_type, context->info.device_index, out_info);
    });
}

moek_status moek_device_count(int32_t device_type, int32_t* out_count) {
    return moek::guarded("moek_device_count", [&] {
        moek::check_not_null("out_count", out_count);
        *out_count = 0;
        return moek::backend_of(device_type, nullptr).device_count(out_count);
    });
}

moek_status moek_device_query(int32_t device_type, int32_t device_index, moek_device_info* out_info) {
    return moek::guarded("moek_device_query", [&] {
        moek::check_not_null("out_info", out_info);
        const moek_backend& backend = moek::backend_of(device_type, nullptr);
        int32_t count = 0;
        const moek_status status = backend.device_count(&count);
        if (status != MOEK_STATUS_CODE_OK) return status;
        moek::check_range("device_index", device_index, 0, count - 1);
        return query_device(backend, device_type, device_index, out_info);
    });
}
