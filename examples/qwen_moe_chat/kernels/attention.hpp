// qwen_moe_chat/kernels/attention.hpp — query heads that share a kv head, page by page
//
// A page holds the keys of a kv head transposed, [head_dim, tokens], and its values [tokens, head_dim]. So scores and
// sums of values are both products whose second matrix lies in rows, for one token's query heads as for a tile of a
// prompt; each key and value is loaded once for all of them. One pass: what was summed is rescaled when a larger score
// appears.
#pragma once

#include "qwen_moe_chat/kernels.hpp"
#include "qwen_moe_chat/kernels/tile.hpp"

#include <cstddef>

namespace qwen::inline HLWQ_CODE_NAMESPACE {
namespace kernel {

inline constexpr float lowest = -__builtin_inff();

/// Where a tile keeps what it has seen.
struct tile_memory {
    explicit tile_memory(const attention_tile& tile, float* seen) noexcept
        : largest(seen),
          sum(seen + tile.rows()),
          values(seen + rounded_up(2 * tile.rows(), 16)),
          cols(kv_value_cols(tile.head_dim)) {}
    float *largest, *sum;  // [rows]
    float* values;         // [rows, cols]
    std::size_t cols;
};

template <class T>
void append_kv(void* page, std::size_t at, const float* keys, const float* values, std::size_t stride,
               std::size_t count, std::size_t head_dim) noexcept {
    T* to = static_cast<T*>(page);
    transpose<T>({keys, stride}, count, head_dim, {to + at, kv_page_tokens});
    const std::size_t cols = kv_value_cols(head_dim);
    to += kv_page_tokens * head_dim + at * cols;
    for (std::size_t t = 0; t < count; ++t) {
        const float* from = values + t * stride;
        std::size_t c = 0;
        for (; c + S::lanes <= head_dim; c += S::lanes) narrow(to + t * cols + c, S::load(from + c));
        for (; c < head_dim; ++c) to[t * cols + c] = T(from[c]);
    }
}

inline void attention_begin(const attention_tile& tile, const float* q, std::size_t token_stride,
                            std::size_t head_stride, float scale) noexcept {
    const tile_memory seen(tile, tile.seen);
    const auto factor = S::set(scale);
    for (std::size_t row = 0; row < tile.rows(); ++row) {
        const float* from = q + row / tile.group * token_stride + row % tile.group * head_stride;
        map<S>(
            tile.scratch + row * tile.head_dim, tile.head_dim, [=](S::f32 x) { return S::mul(x, factor); }, from);
        seen.largest[row] = lowest;
        seen.sum[row] = 0.0f;
        for (std::size_t c = 0; c < seen.cols; ++c) seen.values[row * seen.cols + c] = 0.0f;
    }
}

/// Scores of one row, of which `visible` count and `width` are used by the product with the values, to weights.
HLWQ_INLINE void weigh(float* scores, std::size_t visible, std::size_t width, const tile_memory& seen,
                       std::size_t row) noexcept {
    const std::size_t whole = rounded_up(visible, S::lanes);
    for (std::size_t i = visible; i < whole; ++i) scores[i] = lowest;
    auto most = S::load(scores);
    for (std::size_t i = S::lanes; i < whole; i += S::lanes) most = S::max(most, S::load(scores + i));
    const float before = seen.largest[row], best = S::reduce_max(most);
    if (best > before) {
        float shrink[S::lanes];
        S::store(shrink, exp<S>(S::set(before - best)));
        const auto factor = S::set(shrink[0]);
        float* values = seen.values + row * seen.cols;
        for (std::size_t c = 0; c < seen.cols; c += S::lanes) {
            S::store(values + c, S::mul(factor, S::load(values + c)));
        }
        seen.sum[row] *= shrink[0];
        seen.largest[row] = best;
    }
    const auto level = S::set(seen.largest[row]);
    auto sum = S::set(0.0f);
    for (std::size_t i = 0; i < whole; i += S::lanes) {
        const auto weight = exp<S>(S::sub(S::load(scores + i), level));
        S::store(scores + i, weight);
        sum = S::add(sum, weight);
    }
    for (std::size_t i = whole; i < width; ++i) scores[i] = 0.0f;
    seen.sum[row] += S::reduce_add(sum);
}

template <class T, class Ahead>
HLWQ_INLINE void add_page(const attention_tile& tile, const void* page, std::size_t count, std::ptrdiff_t visible,
                          Ahead ahead) noexcept {
    const tile_memory seen(tile, tile.seen);
    const T* keys = static_cast<const T*>(page);
    const T* values = keys + kv_page_tokens * tile.head_dim;
    float* scores = tile.scratch + attention_rows * tile.head_dim;
    product<T>({tile.scratch, tile.head_dim}, tile.rows(), {keys, kv_page_tokens}, tile.head_dim,
               {scores, kv_page_tokens}, rounded_up(count, S::lanes), 0.0f, ahead);
    for (std::size_t row = 0; row < tile.rows(); ++row) {
        const std::ptrdiff_t end = visible + static_cast<std::ptrdiff_t>(row / tile.group);
        const std::size_t sees = end <= 0                                ? 0
                                 : static_cast<std::size_t>(end) < count ? static_cast<std::size_t>(end)
                                                                         : count;
        float* row_scores = scores + row * kv_page_tokens;
        if (sees == 0) {
            for (std::size_t i = 0; i < count; ++i) row_scores[i] = 0.0f;
        } else {
            weigh(row_scores, sees, count, seen, row);
        }
    }
    product<T>({scores, kv_page_tokens}, tile.rows(), {values, seen.cols}, count, {seen.values, seen.cols}, seen.cols,
               1.0f, ahead);
}

template <class T>
void attention_page(const attention_tile& tile, const void* page, const void* next, std::size_t count,
                    std::ptrdiff_t visible) noexcept {
    if (next != nullptr && tile.rows() <= tile_rows) {
        // So few rows wait for memory.
        add_page<T>(tile, page, count, visible, memory_ahead{static_cast<const unsigned char*>(next)});
    } else {
        add_page<T>(tile, page, count, visible, nothing_ahead{});
    }
}

inline void attention_end(const attention_tile& tile, std::size_t parts, std::size_t part_stride, const float* gate,
                          std::size_t token_stride, std::size_t head_stride, float* out,
                          std::size_t out_stride) noexcept {
    const tile_memory first(tile, tile.seen);
    for (std::size_t row = 0; row < tile.rows(); ++row) {
        float best = lowest;
        for (std::size_t p = 0; p < parts; ++p) {
            const float largest = first.largest[p * part_stride + row];
            if (largest > best) best = largest;
        }
        float total = 0.0f;
        float* to = out + row / tile.group * out_stride + row % tile.group * tile.head_dim;
        const float* gates = gate + row / tile.group * token_stride + row % tile.group * head_stride;
        float* values = first.values + row * first.cols;
        for (std::size_t p = 0; p < parts; ++p) {
            float shrink[S::lanes];
            S::store(shrink, exp<S>(S::set(first.largest[p * part_stride + row] - best)));
            total += shrink[0] * first.sum[p * part_stride + row];
            const auto factor = S::set(shrink[0]);
            const float* more = values + p * part_stride;
            if (p == 0) {
                map<S>(
                    values, first.cols, [=](S::f32 x) { return S::mul(factor, x); }, more);
            } else {
                map<S>(
                    values, first.cols, [=](S::f32 sum, S::f32 x) { return S::fma(factor, x, sum); }, values, more);
            }
        }
        const auto scale = S::set(1.0f / total);
        map<S>(
            to, tile.head_dim, [=](S::f32 x, S::f32 g) { return S::mul(S::mul(x, scale), sigmoid<S>(g)); }, values,
            gates);
    }
}

}  // namespace kernel
}  // namespace qwen::inline HLWQ_CODE_NAMESPACE
