// Where the tiles of a product's operands come from. A source is a matrix seen as lines of contiguous elements (see
// OperandTile). It brings one chunk of a line at a time into shared memory, with zeros for what lies outside the matrix:
//
//   copy_async<Operand>   where `is_async<Operand>()`: elements stored as the operand needs them, in aligned rows
//   copy<Operand>         always: conversion, dropout, rows that are not aligned
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cuda/common/philox.hpp"
#include "cuda/common/vector_access.hpp"
#include "cuda/gemm/chunk.hpp"
#include "cuda/gemm/operand_tile.hpp"

namespace moek::cuda {

// [tokens, elements]: what a product reads once and streams. Dropout's mask is applied on the way, and the product is
// rounded to the operand's type then. Tokens that are not live read as zeros, whatever they hold.
template <class Stored>
struct TokenSource {
    const Stored* data;
    int64_t stride;
    int64_t tokens;
    int32_t elements;
    int32_t aligned;      // all rows, to 16 bytes
    const uint8_t* live;  // [tokens], or null: all of them
    Dropout dropout;

    template <class Operand>
    __device__ __forceinline__ bool is_async() const {
        return std::is_same_v<Stored, Operand> && aligned != 0 && !dropout.active();
    }

    template <class Operand>
    __device__ __forceinline__ void copy_async(unsigned char* target, int64_t line, int element) const {
        copy_chunk_async<Operand>(target, address(line, element), valid(line, element), data);
    }

    template <class Operand>
    __device__ __forceinline__ void copy(unsigned char* target, int64_t line, int element) const {
        constexpr int kCount = kChunkElements<Operand>;
        float values[kCount];
        load_values(values, address(line, element), valid(line, element), aligned != 0);
        if (dropout.active() && valid(line, element) > 0) {
            float factors[kCount];
            dropout_run(dropout, static_cast<uint64_t>(line * elements + element), factors);
#pragma unroll
            for (int i = 0; i < kCount; ++i) values[i] *= factors[i];
        }
        store_chunk<Operand>(target, values);
    }

  private:
    __device__ __forceinline__ const Stored* address(int64_t line, int element) const {
        return data + line * stride + element;
    }
    __device__ __forceinline__ int valid(int64_t line, int element) const {
        return line < tokens && (live == nullptr || live[line] != 0) ? elements - element : 0;
    }
};

// Two weight matrices with lines of the same length, one below the other, such as [A; W_r]. The second starts at line
// `second`; lines in between and behind are zeros.
template <class Stored>
struct WeightSource {
    const Stored* data[2];
    int64_t stride[2];
    int32_t lines[2];
    int32_t second;
    int32_t elements;
    int32_t aligned;  // all rows of both, to 16 bytes

    template <class Operand>
    __device__ __forceinline__ bool is_async() const {
        return std::is_same_v<Stored, Operand> && aligned != 0;
    }

    template <class Operand>
    __device__ __forceinline__ void copy_async(unsigned char* target, int64_t line, int element) const {
        if constexpr (std::is_same_v<Stored, Operand>) {
            copy_chunk_async<Operand>(target, address(line, element), valid(line, element), data[0]);
        }
    }

    template <class Operand>
    __device__ __forceinline__ void copy(unsigned char* target, int64_t line, int element) const {
        copy_chunk<Operand>(target, address(line, element), valid(line, element), aligned != 0);
    }

  private:
    __device__ __forceinline__ const Stored* address(int64_t line, int element) const {
        return line < second ? data[0] + line * stride[0] + element : data[1] + (line - second) * stride[1] + element;
    }
    __device__ __forceinline__ int valid(int64_t line, int element) const {
        const bool exists = line < second ? line < lines[0] : line - second < lines[1];
        return exists ? elements - element : 0;
    }
};

// Copies a tile: the lines from `line` on, and of each the elements from `element` on. All threads of the block take part.
template <class Operand, class Tile, int kThreads, class Source>
__device__ __forceinline__ void load_tile(unsigned char* tile, const Source& source, int64_t line, int element) {
    constexpr int kChunks = Tile::kLines * Tile::kLineChunks;
    static_assert(kChunks % kThreads == 0, "every thread copies the same number of chunks");
    const auto copy = [&](int index, auto&& one) {
        const int own_line = index / Tile::kLineChunks;
        const int own_chunk = index % Tile::kLineChunks;
        one(tile + Tile::chunk_offset(own_line, own_chunk), line + own_line, element + own_chunk * Tile::kChunk);
    };
    if (source.template is_async<Operand>()) {
#pragma unroll
        for (int i = 0; i < kChunks / kThreads; ++i) {
            copy(i * kThreads + static_cast<int>(threadIdx.x),
                 [&](unsigned char* target, int64_t l, int e) { source.template copy_async<Operand>(target, l, e); });
        }
    } else {
        // Not unrolled: it would double the kernel's registers for what only odd shapes and dropout need.
#pragma unroll 1
        for (int i = 0; i < kChunks / kThreads; ++i) {
            copy(i * kThreads + static_cast<int>(threadIdx.x),
                 [&](unsigned char* target, int64_t l, int e) { source.template copy<Operand>(target, l, e); });
        }
    }
}

}  // namespace moek::cuda
