// qwen_moe_chat/kernels/tile.hpp — small products of f32 matrices, in tiles that stay in registers
#pragma once

#include "qwen_moe_chat/kernels/vector_math.hpp"

#include "hlwq/float16.hpp"

#include <cstddef>
#include <cstdint>

namespace qwen::inline HLWQ_CODE_NAMESPACE {
namespace kernel {

using S = hlwq::simd::native;

HLWQ_INLINE S::f32 widen(const float* p) noexcept { return S::load(p); }
HLWQ_INLINE S::f32 widen(const hlwq::half* p) noexcept { return S::load_half(p); }
HLWQ_INLINE S::f32 widen(const hlwq::bfloat16* p) noexcept { return S::load_bfloat16(p); }
HLWQ_INLINE void narrow(float* p, S::f32 v) noexcept { S::store(p, v); }
HLWQ_INLINE void narrow(hlwq::half* p, S::f32 v) noexcept { S::store_half(p, v); }
HLWQ_INLINE void narrow(hlwq::bfloat16* p, S::f32 v) noexcept { S::store_bfloat16(p, v); }

/// Rows of a tile: with two vectors a row, what the registers hold beside the operands.
inline constexpr std::size_t tile_rows = S::registers >= 32 ? 8 : 4;

/// A matrix of which neighbours in a row are neighbours in memory.
template <class T>
struct block {
    T* data;
    std::size_t stride;
    HLWQ_INLINE T* at(std::size_t row, std::size_t col) const noexcept { return data + row * stride + col; }
};

/// Memory that will be read after b, asked for piece by piece while b is read: none, or from a place on.
struct nothing_ahead {
    HLWQ_INLINE void step(std::size_t) noexcept {}
};
struct memory_ahead {
    const unsigned char* at;
    HLWQ_INLINE void step(std::size_t bytes) noexcept {
        for (std::size_t i = 0; i < bytes; i += 64) S::prefetch(at + i);
        at += bytes;
    }
};

/// c = keep · c + a b for a tile of c, Rows rows and Vectors vectors of columns. keep = 0: c is not read.
template <std::size_t Rows, std::size_t Vectors, class T, class Ahead>
HLWQ_INLINE void tile_product(block<const float> a, block<const T> b, std::size_t depth, block<float> c, float keep,
                              Ahead& ahead) noexcept {
    S::f32 sum[Rows][Vectors];
    if (keep == 0.0f) {
        HLWQ_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
            HLWQ_UNROLL for (std::size_t v = 0; v < Vectors; ++v) sum[r][v] = S::set(0.0f);
        }
    } else {
        const auto factor = S::set(keep);
        HLWQ_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
            HLWQ_UNROLL for (std::size_t v = 0; v < Vectors; ++v) {
                sum[r][v] = S::mul(factor, S::load(c.at(r, v * S::lanes)));
            }
        }
    }
    for (std::size_t k = 0; k < depth; ++k) {
        S::f32 row[Vectors];
        ahead.step(Vectors * S::lanes * sizeof(T));
        HLWQ_UNROLL for (std::size_t v = 0; v < Vectors; ++v) row[v] = widen(b.at(k, v * S::lanes));
        HLWQ_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
            const auto factor = S::set(*a.at(r, k));
            HLWQ_UNROLL for (std::size_t v = 0; v < Vectors; ++v) sum[r][v] = S::fma(factor, row[v], sum[r][v]);
        }
    }
    HLWQ_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
        HLWQ_UNROLL for (std::size_t v = 0; v < Vectors; ++v) S::store(c.at(r, v * S::lanes), sum[r][v]);
    }
}

template <std::size_t Vectors, class T, class Ahead>
void strip_product(block<const float> a, std::size_t rows, block<const T> b, std::size_t depth, block<float> c,
                   float keep, Ahead& ahead) noexcept {
    std::size_t r = 0;
    for (; r + tile_rows <= rows; r += tile_rows) {
        tile_product<tile_rows, Vectors>({a.at(r, 0), a.stride}, b, depth, {c.at(r, 0), c.stride}, keep, ahead);
    }
    if constexpr (tile_rows > 4) {
        for (; r + 4 <= rows; r += 4) {
            tile_product<4, Vectors>({a.at(r, 0), a.stride}, b, depth, {c.at(r, 0), c.stride}, keep, ahead);
        }
    }
    for (; r + 2 <= rows; r += 2) {
        tile_product<2, Vectors>({a.at(r, 0), a.stride}, b, depth, {c.at(r, 0), c.stride}, keep, ahead);
    }
    if (r < rows) tile_product<1, Vectors>({a.at(r, 0), a.stride}, b, depth, {c.at(r, 0), c.stride}, keep, ahead);
}

/// c = keep · c + a b. a [rows, depth], b [depth, cols], c [rows, cols]; cols is a multiple of a vector.
template <class T, class Ahead>
void product(block<const float> a, std::size_t rows, block<const T> b, std::size_t depth, block<float> c,
             std::size_t cols, float keep, Ahead& ahead) noexcept {
    std::size_t at = 0;
    for (; at + 2 * S::lanes <= cols; at += 2 * S::lanes) {
        strip_product<2, T, Ahead>(a, rows, {b.at(0, at), b.stride}, depth, {c.at(0, at), c.stride}, keep, ahead);
    }
    for (; at < cols; at += S::lanes) {
        strip_product<1, T, Ahead>(a, rows, {b.at(0, at), b.stride}, depth, {c.at(0, at), c.stride}, keep, ahead);
    }
}

template <class T>
void product(block<const float> a, std::size_t rows, block<const T> b, std::size_t depth, block<float> c,
             std::size_t cols, float keep) noexcept {
    nothing_ahead none;
    product<T>(a, rows, b, depth, c, cols, keep, none);
}

/// A square of `lanes` rows and columns of `from`, transposed.
template <class T>
HLWQ_INLINE void transpose_square(block<const float> from, block<T> to) noexcept {
    S::u8 rows[S::lanes];
    HLWQ_UNROLL for (std::size_t i = 0; i < S::lanes; ++i) {
        rows[i] = S::load_u8(reinterpret_cast<const std::uint8_t*>(from.at(i, 0)));
    }
    S::transpose(rows);
    HLWQ_UNROLL for (std::size_t i = 0; i < S::lanes; ++i) {
        float row[S::lanes];
        S::store_u8(reinterpret_cast<std::uint8_t*>(row), rows[i]);
        narrow(to.at(i, 0), S::load(row));
    }
}

/// to[j, i] = from[i, j] for i < rows, j < cols.
template <class T>
HLWQ_INLINE void transpose(block<const float> from, std::size_t rows, std::size_t cols, block<T> to) noexcept {
    std::size_t i = 0;
    for (; i + S::lanes <= rows; i += S::lanes) {
        std::size_t j = 0;
        for (; j + S::lanes <= cols; j += S::lanes) {
            transpose_square<T>({from.at(i, j), from.stride}, {to.at(j, i), to.stride});
        }
        for (; j < cols; ++j) {
            for (std::size_t k = i; k < i + S::lanes; ++k) *to.at(j, k) = T(*from.at(k, j));
        }
    }
    for (; i < rows; ++i) {
        for (std::size_t j = 0; j < cols; ++j) *to.at(j, i) = T(*from.at(i, j));
    }
}

}  // namespace kernel
}  // namespace qwen::inline HLWQ_CODE_NAMESPACE
