// C entry point of the op `dropout`: check the arguments, resolve the defaults, call the backend.
#include <limits>

#include "core/check.hpp"
#include "core/context.hpp"
#include "core/dtype.hpp"

namespace moek {
namespace {

moek_dropout_args resolve(const moek_context* context, const moek_dropout_args* given) {
    check_not_null("context", context);
    moek_dropout_args args = read_struct("args", given);
    check_zero("flags", args.flags);
    check_range("T", args.T, 0, std::numeric_limits<int64_t>::max());
    check_range("d", args.d, 1, std::numeric_limits<int64_t>::max());
    resolve_stride("mask_stride", &args.mask_stride, args.d);
    check_probability("p", args.p);
    check_enum("stream", args.stream, 2, "moek_dropout_stream");
    check_enum("mask_dtype", args.mask_dtype, 4, "moek_dtype");
    check_reserved(args.reserved);
    Tensors tensors;
    tensors.output("mask", args.mask, args.T, args.d, args.mask_stride, dtype_size(args.mask_dtype));
    return args;
}

}  // namespace
}  // namespace moek

moek_status moek_dropout_mask(moek_context* context, const moek_dropout_args* args, void* stream) {
    return moek::guarded("moek_dropout_mask", [&] {
        const moek_dropout_args resolved = moek::resolve(context, args);
        moek::check_stream(*context, stream);
        return moek::offered(context->backend.dropout_mask)(context->state, &resolved, stream);
    });
}
