// qwen_moe_chat/kernels.hpp — the loops beside the weight products, compiled for an instruction set: what they take and
// how to call them
//
// Plain data and function pointers, no instruction set: whoever includes this header is compiled once. Each entry works
// on a row, a head or a tile; none allocates, and none starts a thread.
//
// Example
//   kernels().zero_centred_norm(x, w, eps, out, 2048);
#pragma once

#include "hlwq/matrix_view.hpp"

#include <cstddef>
#include <cstdint>

namespace qwen {

using hlwq::matrix_view;

/// One value head over the tokens of a call.
struct delta_rule_head {
    matrix_view<const float> q, k;  // [tokens, dk]
    matrix_view<const float> v;     // [tokens, dv]
    const float* g = nullptr;       // [tokens], log decay
    const float* beta = nullptr;    // [tokens]
    matrix_view<float> state;       // S [dk, dv], updated
    matrix_view<float> out;         // o [tokens, dv]
};

/// Tokens that the chunked form of the delta rule takes at once.
inline constexpr std::size_t delta_rule_chunk = 64;

/// A key head of a gated delta net over the tokens of a call, with the value heads that use it: from the inputs of the
/// convolution to the outputs of the gated norm. Channels and value heads are those of this key head; `tail`, `state`
/// and `out` are its alone.
struct gated_delta_head {
    std::size_t tokens = 0, key_dim = 0, value_dim = 0, value_heads = 0, kernel = 0;
    // Inputs of the convolution, a row for each token; rows of u, tail and conv are `channels` apart.
    std::size_t channels = 0;
    const float *u_q = nullptr, *u_k = nullptr, *u_v = nullptr;           // [tokens, ..]
    float *tail_q = nullptr, *tail_k = nullptr, *tail_v = nullptr;        // [kernel - 1, ..], updated
    const float *conv_q = nullptr, *conv_k = nullptr, *conv_v = nullptr;  // [kernel, ..]
    // Of the value heads; rows are `heads` apart.
    std::size_t heads = 0;
    const float *b = nullptr, *a = nullptr;            // [tokens, value heads]
    const float *a_log = nullptr, *dt_bias = nullptr;  // [value heads]
    // Rows of z and out are `values` apart.
    std::size_t values = 0;
    const float* z = nullptr;     // [tokens, value heads · dv]
    const float* norm = nullptr;  // [dv]
    float norm_epsilon = 0.0f;
    float* state = nullptr;  // S [value heads, dk, dv], updated
    float* out = nullptr;    // [tokens, value heads · dv]
};

/// Element types of keys and values.
enum class kv_type : std::uint8_t { f32, f16, bf16 };
inline constexpr std::size_t kv_types = 3;

/// Tokens of a page of keys and values.
inline constexpr std::size_t kv_page_tokens = 64;
/// Columns of a page's values: head_dim, rounded up to the longest vector.
constexpr std::size_t kv_value_cols(std::size_t head_dim) noexcept { return (head_dim + 15) / 16 * 16; }
/// Elements of a page for each kv head: keys [head_dim, page tokens], transposed, then values [page tokens, cols].
constexpr std::size_t kv_head_elements(std::size_t head_dim) noexcept {
    return kv_page_tokens * (head_dim + kv_value_cols(head_dim));
}

/// Rows of an attention tile at most: tokens times the query heads of a kv head.
inline constexpr std::size_t attention_rows = 64;

/// Queries of some tokens that read the same kv head, and what they have seen so far. Row t · group + j is query head j
/// of token t.
struct attention_tile {
    std::size_t tokens = 0, group = 0, head_dim = 0;
    float* scratch = nullptr;  // attention_scratch_floats: queries and scores
    float* seen = nullptr;     // attention_seen_floats: largest score, sum and weighted values of each row
    std::size_t rows() const noexcept { return tokens * group; }
};
constexpr std::size_t attention_scratch_floats(std::size_t head_dim) noexcept {
    return attention_rows * (head_dim + kv_page_tokens);
}
constexpr std::size_t attention_seen_floats(std::size_t rows, std::size_t head_dim) noexcept {
    return (2 * rows + 15) / 16 * 16 + rows * kv_value_cols(head_dim);
}

/// Weights that are numbers; rows are `stride` elements apart.
struct plain_matrix {
    const void* data = nullptr;
    std::size_t stride = 0, cols = 0;
};
/// Their element types: BF16, F16, F32.
inline constexpr std::size_t plain_types = 3;

/// The kernels of one instruction set.
struct kernel_table {
    const char* isa;

    // ---- products (kernels/plain_rows.hpp)
    /// Rows [begin, end) of y = x Wᵀ, by element type.
    void (*plain_rows[plain_types])(const plain_matrix& w, std::size_t begin, std::size_t end,
                                    matrix_view<const float> x, matrix_view<float> y) noexcept;

    // ---- rows (kernels/rows.hpp)
    float (*dot)(const float* a, const float* b, std::size_t count) noexcept;
    /// y += a x
    void (*add_scaled)(float* y, float a, const float* x, std::size_t count) noexcept;
    void (*zero_centred_norm)(const float* x, const float* w, float eps, float* out, std::size_t count) noexcept;
    void (*gated_norm)(const float* o, const float* z, const float* w, float eps, float* out,
                       std::size_t count) noexcept;
    void (*l2_norm)(float* x, float scale, std::size_t count) noexcept;
    void (*silu_product)(float* gate, const float* up, std::size_t count) noexcept;
    void (*rotate)(float* head, const float* cos, const float* sin, std::size_t frequencies) noexcept;
    void (*norm_and_rotate)(float* x, std::size_t heads, std::size_t stride, std::size_t head_dim, const float* w,
                            float eps, const float* cos, const float* sin, std::size_t frequencies) noexcept;

    // ---- logits (kernels/sampling.hpp)
    /// The first index from `from` on at which x is greater than the threshold, or `count`. No NaN is greater.
    std::size_t (*next_above)(const float* x, std::size_t from, std::size_t count, float threshold) noexcept;
    /// x ← e^x
    void (*exponentials)(float* x, std::size_t count) noexcept;

    // ---- gated delta net (kernels/delta_rule.hpp, kernels/gated_delta_head.hpp)
    /// Floats of scratch that the entries below need; it begins at a multiple of 64 bytes.
    std::size_t (*delta_rule_scratch)(std::size_t dk, std::size_t dv) noexcept;
    void (*delta_rule_recurrent)(const delta_rule_head& head) noexcept;
    void (*delta_rule_chunked)(const delta_rule_head& head, float* scratch) noexcept;
    /// out = silu(causal convolution of u) for `width` channels; rows of u, tail and conv are `channels` apart.
    void (*causal_convolution)(const float* u, const float* tail, const float* conv, std::size_t taps,
                               std::size_t channels, std::size_t width, std::size_t tokens, float* out,
                               std::size_t out_stride) noexcept;
    /// The tail becomes the last rows of (tail ++ u).
    void (*advance_tail)(const float* u, float* tail, std::size_t taps, std::size_t channels, std::size_t width,
                         std::size_t tokens) noexcept;
    void (*run_gated_delta_head)(const gated_delta_head& head, float* scratch) noexcept;

    // ---- attention (kernels/attention.hpp), by kv_type
    /// Writes `count` tokens from position `at` of a page: keys and values of one kv head, rows `stride` apart.
    void (*append_kv[kv_types])(void* page, std::size_t at, const float* keys, const float* values, std::size_t stride,
                                std::size_t count, std::size_t head_dim) noexcept;
    /// Takes the queries, times `scale`; token t's head j begins at q + t · token_stride + j · head_stride.
    void (*attention_begin)(const attention_tile& tile, const float* q, std::size_t token_stride,
                            std::size_t head_stride, float scale) noexcept;
    /// Adds a page; `next`, which may be null, is the one that will be added after it. Token t of the tile sees the
    /// first `visible` + t of its tokens, at most `count`; `visible` may be negative.
    void (*attention_page[kv_types])(const attention_tile& tile, const void* page, const void* next, std::size_t count,
                                     std::ptrdiff_t visible) noexcept;
    /// out = values seen by `parts` tiles of the same queries, `part_stride` floats apart, times sigmoid(gate).
    void (*attention_end)(const attention_tile& tile, std::size_t parts, std::size_t part_stride, const float* gate,
                          std::size_t token_stride, std::size_t head_stride, float* out,
                          std::size_t out_stride) noexcept;
};

/// The kernels of the instruction set that hlwq::dispatch chose. Throws unsupported_error if it cannot be had.
const kernel_table& kernels();

}  // namespace qwen
