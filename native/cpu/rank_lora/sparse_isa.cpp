#include "cpu/rank_lora/sparse_isa.hpp"

#include "cpu/common/convert.hpp"
#include "cpu/common/simd.hpp"

namespace moek::cpu::MOEK_ISA_NAME {
namespace {

// A strip of columns is 8 registers wide, or 4 when so many rows would not stay in the first-level cache.
constexpr int kWide = 8;
constexpr int kNarrow = 4;
constexpr int64_t kStripBytes = 40 * 1024;

template <class Acc>
constexpr int64_t kLanes = Vec<Acc>::kLanes;

template <class Acc>
bool is_wide(int64_t rows) {
    return rows * kWide * kLanes<Acc> * static_cast<int64_t>(sizeof(Acc)) <= kStripBytes;
}

template <class Acc>
int64_t strip_columns(int64_t rows) {
    return (is_wide<Acc>(rows) ? kWide : kNarrow) * kLanes<Acc>;
}

template <class Acc>
constexpr int32_t kAccDtype = sizeof(Acc) == 8 ? MOEK_DTYPE_F64 : MOEK_DTYPE_F32;

// Instead of the member function, which is no part of this namespace (see the rule in native/CMakeLists.txt).
bool is_active(const Dropout& dropout) {
    return dropout.p > 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// Strips: columns col0 .. col0 + width of all rows, in the accumulator type, padded with zeros
// ---------------------------------------------------------------------------------------------------------------------

template <class Acc>
void fill_zero(Acc* values, int64_t count) {
    for (int64_t i = 0; i < count; ++i) values[i] = 0;
}

// Columns of [d, rows] become rows, a square of registers at a time.
template <class Acc>
void pack_transposed(const RowMatrix& matrix, int32_t dtype, int64_t col0, int64_t count, int64_t width, Acc* strip) {
    constexpr int64_t kSide = kLanes<Acc>;
    Acc square[static_cast<size_t>(kSide * kSide)];
    for (int64_t c = 0; c < width; c += kSide) {
        for (int64_t i = 0; i < matrix.rows; i += kSide) {
            const int64_t rows = matrix.rows - i < kSide ? matrix.rows - i : kSide;
            for (int64_t j = 0; j < kSide; ++j) {
                Acc* const line = square + j * kSide;
                if (c + j < count) {
                    load_run<Acc>(element(matrix.data, dtype, (col0 + c + j) * matrix.stride + i), dtype, rows, line);
                } else {
                    fill_zero(line, rows);
                }
            }
            if (rows == kSide) {
                Vec<Acc>::transpose(square, kSide, strip + i * width + c, width);
                continue;
            }
            for (int64_t row = 0; row < rows; ++row) {
                for (int64_t j = 0; j < kSide; ++j) strip[(i + row) * width + c + j] = square[j * kSide + row];
            }
        }
    }
}

template <class Acc>
void pack_strip(const RowStack& stack, int64_t col0, int64_t count, int64_t width, Acc* strip) {
    for (const RowMatrix& matrix : stack.part) {
        if (matrix.rows == 0) continue;
        if (matrix.transposed) {
            pack_transposed(matrix, stack.dtype, col0, count, width, strip);
        } else {
            for (int64_t i = 0; i < matrix.rows; ++i) {
                Acc* const line = strip + i * width;
                load_run<Acc>(element(matrix.data, stack.dtype, i * matrix.stride + col0), stack.dtype, count, line);
                fill_zero(line + count, width - count);
            }
        }
        strip += matrix.rows * width;
    }
}

// Where row `id` of a strip lies: packed, or in place when it is full and stored as it is needed.
template <class Acc>
struct Strip {
    const Acc* base[2];
    int64_t stride[2];
    int64_t split;  // rows of the first part

    const Acc* row(int64_t id) const {
        return id < split ? base[0] + id * stride[0] : base[1] + (id - split) * stride[1];
    }
};

// Packing touches every row; `uses` rows will be read.
template <class Acc>
Strip<Acc> make_strip(const RowStack& stack, int64_t col0, int64_t count, int64_t width, int64_t uses, Acc* memory) {
    const RowMatrix& first = stack.part[0];
    const RowMatrix& second = stack.part[1];
    const bool in_place = stack.dtype == kAccDtype<Acc> && count == width && !first.transposed &&
                          (second.rows == 0 || !second.transposed) && uses < 4 * (first.rows + second.rows);
    if (in_place) {
        const Acc* const tail = second.rows == 0 ? nullptr : static_cast<const Acc*>(second.data) + col0;
        return {{static_cast<const Acc*>(first.data) + col0, tail}, {first.stride, second.stride}, first.rows};
    }
    pack_strip(stack, col0, count, width, memory);
    return {{memory, memory + first.rows * width}, {width, width}, first.rows};
}

// Columns col0 .. of a token in the accumulator type with the mask applied, padded with zeros: in place if possible.
template <class Acc>
const Acc* token_strip(const TokenRows& in, int64_t d, int64_t t, int64_t col0, int64_t count, int64_t width,
                       Acc* buffer) {
    const void* const source = element(in.data, in.dtype, t * in.stride + col0);
    if (in.dtype == kAccDtype<Acc> && count == width && !is_active(in.dropout)) return static_cast<const Acc*>(source);
    load_run<Acc>(source, in.dtype, count, buffer);
    if (is_active(in.dropout)) {
        Acc factors[static_cast<size_t>(kWide * kLanes<Acc>)];
        dropout_factors(in.dropout, static_cast<uint64_t>(t * d + col0), count, factors);
        for (int64_t c = 0; c < count; ++c) buffer[c] *= factors[c];
    }
    fill_zero(buffer + count, width - count);
    return buffer;
}

void prefetch_token(const TokenRows& in, int64_t t, int64_t col0, int64_t count) {
    const char* const start = static_cast<const char*>(element(in.data, in.dtype, t * in.stride + col0));
    const int64_t bytes = count * static_cast<int64_t>(dtype_size(in.dtype));
    for (int64_t offset = 0; offset < bytes; offset += 64) prefetch(start + offset);
}

void prefetch_output(const SparseCombine& job, int64_t t, int64_t col0, int64_t count) {
    const char* const start = static_cast<const char*>(element(job.out, job.out_dtype, t * job.out_stride + col0));
    const int64_t bytes = count * static_cast<int64_t>(dtype_size(job.out_dtype));
    for (int64_t offset = 0; offset < bytes; offset += 64) prefetch_for_write(start + offset);
}

// Far enough ahead for memory to answer, near enough to stay in the cache.
constexpr int64_t kPrefetchTokens = 6;

// ---------------------------------------------------------------------------------------------------------------------
// The three products
// ---------------------------------------------------------------------------------------------------------------------

template <class Acc, int Registers>
void combine(const SparseCombine& job, int64_t token0, int64_t tokens, int64_t col0, Acc* memory) {
    using V = Vec<Acc>;
    constexpr int64_t kWidth = Registers * V::kLanes;
    const int64_t count = job.d - col0 < kWidth ? job.d - col0 : kWidth;
    const Strip<Acc> strip = make_strip(job.rows, col0, count, kWidth, tokens * job.m, memory);
    const bool in_place =
        job.out_dtype == kAccDtype<Acc> && count == kWidth && !job.accumulate && !is_active(job.dropout);
    Acc buffer[static_cast<size_t>(kWidth)];
    for (int64_t t = token0; t < token0 + tokens; ++t) {
        if (t + kPrefetchTokens < job.T) prefetch_output(job, t + kPrefetchTokens, col0, count);
        const int32_t* const ids = job.ids + t * job.m;
        const Acc* const values = static_cast<const Acc*>(job.values) + t * job.m;
        typename V::Reg sum[size_t{Registers}];
        MOEK_UNROLL
        for (int v = 0; v < Registers; ++v) sum[v] = V::zero();
        for (int64_t e = 0; e < job.m; ++e) {
            if (values[e] == 0) continue;
            const typename V::Reg value = V::set1(values[e]);
            const Acc* const row = strip.row(ids[e]);
            MOEK_UNROLL
            for (int v = 0; v < Registers; ++v) sum[v] = V::fma(value, V::load(row + v * V::kLanes), sum[v]);
        }
        void* const target = element(job.out, job.out_dtype, t * job.out_stride + col0);
        Acc* const result = in_place ? static_cast<Acc*>(target) : buffer;
        MOEK_UNROLL
        for (int v = 0; v < Registers; ++v) V::store(result + v * V::kLanes, sum[v]);
        if (in_place) continue;
        if (is_active(job.dropout)) {
            Acc factors[static_cast<size_t>(kWidth)];
            dropout_factors(job.dropout, static_cast<uint64_t>(t * job.d + col0), count, factors);
            for (int64_t c = 0; c < count; ++c) buffer[c] *= factors[c];
        }
        if (job.accumulate) {
            add_scaled_run<Acc>(1, buffer, count, job.out_dtype, target);
        } else {
            store_run<Acc>(buffer, count, job.out_dtype, target);
        }
    }
}

template <class Acc, int Registers>
void dot(const SparseDot& job, int64_t token0, int64_t tokens, Acc* memory) {
    using V = Vec<Acc>;
    constexpr int64_t kWidth = Registers * V::kLanes;
    // [tokens, m, lanes]: the running sums. Strips are the outer loop, so that the rows of one stay in the cache.
    Acc* const sums = memory;
    Acc* const packed = sums + dot_tokens(job.m) * job.m * V::kLanes;
    fill_zero(sums, tokens * job.m * V::kLanes);
    Acc buffer[static_cast<size_t>(kWidth)];
    for (int64_t col0 = 0; col0 < job.d; col0 += kWidth) {
        const int64_t count = job.d - col0 < kWidth ? job.d - col0 : kWidth;
        const Strip<Acc> strip = make_strip(job.rows, col0, count, kWidth, tokens * job.m, packed);
        for (int64_t i = 0; i < tokens; ++i) {
            const int64_t t = token0 + i;
            if (i + kPrefetchTokens < tokens) prefetch_token(job.in, t + kPrefetchTokens, col0, count);
            const Acc* const token = token_strip(job.in, job.d, t, col0, count, kWidth, buffer);
            typename V::Reg column[size_t{Registers}];
            MOEK_UNROLL
            for (int v = 0; v < Registers; ++v) column[v] = V::load(token + v * V::kLanes);
            for (int64_t e = 0; e < job.m; ++e) {
                const Acc* const row = strip.row(job.ids[t * job.m + e]);
                Acc* const place = sums + (i * job.m + e) * V::kLanes;
                typename V::Reg sum = V::load(place);
                MOEK_UNROLL
                for (int v = 0; v < Registers; ++v) sum = V::fma(column[v], V::load(row + v * V::kLanes), sum);
                V::store(place, sum);
            }
        }
    }
    Acc* const out = static_cast<Acc*>(job.out) + token0 * job.m;
    for (int64_t i = 0; i < tokens * job.m; ++i) out[i] = sum_lanes<V>(V::load(sums + i * V::kLanes));
}

// Writes rows [rows, count] of a strip to G.
template <class Acc>
void write_target(const ScatterTarget& target, const Acc* strip, int64_t width, int64_t col0, int64_t count,
                  bool accumulate) {
    const auto write = [&](const Acc* values, int64_t n, int64_t index) {
        void* const place = element(target.data, target.dtype, index);
        if (accumulate) {
            add_scaled_run<Acc>(1, values, n, target.dtype, place);
        } else {
            store_run<Acc>(values, n, target.dtype, place);
        }
    };
    if (!target.transposed) {
        for (int64_t i = 0; i < target.rows; ++i) write(strip + i * width, count, i * target.stride + col0);
        return;
    }
    constexpr int64_t kSide = kLanes<Acc>;
    Acc square[static_cast<size_t>(kSide * kSide)];
    for (int64_t c = 0; c < count; c += kSide) {
        for (int64_t i = 0; i < target.rows; i += kSide) {
            const int64_t rows = target.rows - i < kSide ? target.rows - i : kSide;
            if (rows == kSide) {
                Vec<Acc>::transpose(strip + i * width + c, width, square, kSide);
            } else {
                for (int64_t row = 0; row < rows; ++row) {
                    for (int64_t j = 0; j < kSide; ++j) square[j * kSide + row] = strip[(i + row) * width + c + j];
                }
            }
            for (int64_t j = 0; j < kSide && c + j < count; ++j) {
                write(square + j * kSide, rows, (col0 + c + j) * target.stride + i);
            }
        }
    }
}

template <class Acc, int Registers>
void scatter(const SparseScatter& job, int64_t col0, int64_t columns, Acc* memory) {
    using V = Vec<Acc>;
    constexpr int64_t kWidth = Registers * V::kLanes;
    const int64_t split = job.target[0].rows;
    const int64_t strip_size = (split + job.target[1].rows) * kWidth;
    const int64_t strips = (columns + kWidth - 1) / kWidth;
    fill_zero(memory, strips * strip_size);
    Acc buffer[static_cast<size_t>(kWidth)];
    // A block of tokens comes from memory once, with its first strip; the other strips find it in the cache.
    constexpr int64_t kBlock = 64;
    for (int64_t token0 = 0; token0 < job.T; token0 += kBlock) {
        const int64_t last = job.T - token0 < kBlock ? job.T : token0 + kBlock;
        for (int64_t s = 0; s < strips; ++s) {
            const int64_t first_column = col0 + s * kWidth;
            const int64_t rest = columns - s * kWidth;
            const int64_t count = rest < kWidth ? rest : kWidth;
            Acc* const strip = memory + s * strip_size;
            for (int64_t t = token0; t < last; ++t) {
                if (s == 0 && t + kPrefetchTokens < job.T) prefetch_token(job.in, t + kPrefetchTokens, col0, columns);
                const int32_t* const ids = job.ids + t * job.m;
                const Acc* const values = static_cast<const Acc*>(job.values) + t * job.m;
                const Acc* const token = token_strip(job.in, job.d, t, first_column, count, kWidth, buffer);
                typename V::Reg column[size_t{Registers}];
                MOEK_UNROLL
                for (int v = 0; v < Registers; ++v) column[v] = V::load(token + v * V::kLanes);
                for (int64_t e = 0; e < job.m; ++e) {
                    if (values[e] == 0) continue;
                    const typename V::Reg value = V::set1(values[e]);
                    Acc* const row = strip + ids[e] * kWidth;
                    MOEK_UNROLL
                    for (int v = 0; v < Registers; ++v) {
                        Acc* const place = row + v * V::kLanes;
                        V::store(place, V::fma(value, column[v], V::load(place)));
                    }
                }
            }
        }
    }
    for (int64_t s = 0; s < strips; ++s) {
        const int64_t first_column = col0 + s * kWidth;
        const int64_t rest = columns - s * kWidth;
        const int64_t count = rest < kWidth ? rest : kWidth;
        const Acc* const strip = memory + s * strip_size;
        if (job.target[0].data) write_target(job.target[0], strip, kWidth, first_column, count, job.accumulate);
        if (job.target[1].data) {
            write_target(job.target[1], strip + split * kWidth, kWidth, first_column, count, job.accumulate);
        }
    }
}

template <class Acc>
void mask_run(const RowMask& mask, int64_t t, int64_t first, int64_t count, Acc* values) {
    if (mask.dead != nullptr && mask.dead[t] != 0) return fill_zero(values, count);
    if (!is_active(mask.dropout)) return;
    constexpr int64_t kChunk = 256;
    Acc factors[kChunk];
    for (int64_t start = 0; start < count; start += kChunk) {
        const int64_t n = count - start < kChunk ? count - start : kChunk;
        dropout_factors(mask.dropout, static_cast<uint64_t>(t * mask.d + first + start), n, factors);
        for (int64_t i = 0; i < n; ++i) values[start + i] *= factors[i];
    }
}

template <class Acc>
int64_t scratch_bytes(int64_t rows, int64_t m) {
    const int64_t strip = kScatterStrips * rows * strip_columns<Acc>(rows);
    const int64_t sums = dot_tokens(m) * m * kLanes<Acc>;
    return (strip + sums) * static_cast<int64_t>(sizeof(Acc));
}

int64_t stack_rows(const RowStack& stack) {
    return stack.part[0].rows + stack.part[1].rows;
}

template <class Acc>
void combine_as(const SparseCombine& job, int64_t token0, int64_t tokens, int64_t col0, void* scratch) {
    if (is_wide<Acc>(stack_rows(job.rows))) {
        combine<Acc, kWide>(job, token0, tokens, col0, static_cast<Acc*>(scratch));
    } else {
        combine<Acc, kNarrow>(job, token0, tokens, col0, static_cast<Acc*>(scratch));
    }
}

template <class Acc>
void dot_as(const SparseDot& job, int64_t token0, int64_t tokens, void* scratch) {
    if (is_wide<Acc>(stack_rows(job.rows))) {
        dot<Acc, kWide>(job, token0, tokens, static_cast<Acc*>(scratch));
    } else {
        dot<Acc, kNarrow>(job, token0, tokens, static_cast<Acc*>(scratch));
    }
}

template <class Acc>
void scatter_as(const SparseScatter& job, int64_t col0, int64_t columns, void* scratch) {
    if (is_wide<Acc>(job.target[0].rows + job.target[1].rows)) {
        scatter<Acc, kWide>(job, col0, columns, static_cast<Acc*>(scratch));
    } else {
        scatter<Acc, kNarrow>(job, col0, columns, static_cast<Acc*>(scratch));
    }
}

}  // namespace

int64_t sparse_strip(bool f64, int64_t rows) {
    return f64 ? strip_columns<double>(rows) : strip_columns<float>(rows);
}

int64_t sparse_task_scratch_bytes(bool f64, int64_t rows, int64_t m) {
    return f64 ? scratch_bytes<double>(rows, m) : scratch_bytes<float>(rows, m);
}

void combine_task(const SparseCombine& job, int64_t token0, int64_t tokens, int64_t col0, void* scratch) {
    job.f64 ? combine_as<double>(job, token0, tokens, col0, scratch)
            : combine_as<float>(job, token0, tokens, col0, scratch);
}

void dot_task(const SparseDot& job, int64_t token0, int64_t tokens, void* scratch) {
    job.f64 ? dot_as<double>(job, token0, tokens, scratch) : dot_as<float>(job, token0, tokens, scratch);
}

void mask_run_f32(const void* mask, int64_t t, int64_t first, int64_t count, void* values) {
    mask_run(*static_cast<const RowMask*>(mask), t, first, count, static_cast<float*>(values));
}

void mask_run_f64(const void* mask, int64_t t, int64_t first, int64_t count, void* values) {
    mask_run(*static_cast<const RowMask*>(mask), t, first, count, static_cast<double*>(values));
}

void scatter_task(const SparseScatter& job, int64_t col0, int64_t columns, void* scratch) {
    job.f64 ? scatter_as<double>(job, col0, columns, scratch) : scatter_as<float>(job, col0, columns, scratch);
}

}  // namespace moek::cpu::MOEK_ISA_NAME
