#include "cpu/dropout/dropout.hpp"

#include <algorithm>

#include "core/dtype.hpp"
#include "cpu/common/philox.hpp"

namespace moek::cpu {
namespace {

template <class Storage>
void write_row(const moek_dropout_args& args, int64_t row) {
    constexpr int64_t kChunk = 256;
    accumulator_t<Storage> factors[kChunk];
    const Dropout dropout = {args.p, args.seed, args.offset, args.stream};
    Storage* mask = static_cast<Storage*>(args.mask) + row * args.mask_stride;
    for (int64_t start = 0; start < args.d; start += kChunk) {
        const int64_t count = std::min(kChunk, args.d - start);
        dropout_factors(dropout,
                        static_cast<uint64_t>(row) * static_cast<uint64_t>(args.d) + static_cast<uint64_t>(start),
                        count, factors);
        for (int64_t i = 0; i < count; ++i) mask[start + i] = store<Storage>(factors[i]);
    }
}

template <class Storage>
void write_mask(Context& context, const moek_dropout_args& args) {
    // About ten operations an element and round.
    const double work = 100.0 * static_cast<double>(args.T) * static_cast<double>(args.d) / 4;
    context.pool.parallel_for(args.T, work, [&](int64_t row) { write_row<Storage>(args, row); });
}

}  // namespace

moek_status dropout_mask(void* state, const moek_dropout_args* args, void*) {
    Context& context = context_of(state);
    switch (args->mask_dtype) {
        case MOEK_DTYPE_F32:
            write_mask<float>(context, *args);
            break;
        case MOEK_DTYPE_BF16:
            write_mask<bf16>(context, *args);
            break;
        case MOEK_DTYPE_F16:
            write_mask<f16>(context, *args);
            break;
        default:
            write_mask<double>(context, *args);
            break;
    }
    return MOEK_STATUS_CODE_OK;
}

}  // namespace moek::cpu
