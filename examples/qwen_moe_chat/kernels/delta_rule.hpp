// qwen_moe_chat/kernels/delta_rule.hpp — one value head of a gated delta net, token by token and in chunks
//
//   S ← e^g S;  d = β (v − Sᵀ k);  S ← S + k ⊗ d;  o = Sᵀ q
//
// Token by token, a strip of columns of S stays in the first-level cache: Sᵀk and Sᵀq come from one sweep over the old
// S, because o = e^g Sᵀq + (k · q) d, and a second sweep writes. So S is read and written once, however many tokens.
//
// A chunk of n tokens, with G_i = Σ_(j≤i) g_j and D_ij = e^(G_i − G_j) for j ≤ i:
//   (I + strictly lower (β K Kᵀ ⊙ D)) Ṽ = β (V − e^G (K S))
//   O = e^G (Q S) + (Q Kᵀ ⊙ D) Ṽ
//   S ← e^(G_n) S + Kᵀ (e^(G_n − G_j) Ṽ)
// K Kᵀ and Q Kᵀ belong to the key head: value heads share them.
#pragma once

#include "qwen_moe_chat/kernels.hpp"
#include "qwen_moe_chat/kernels/rows.hpp"
#include "qwen_moe_chat/kernels/tile.hpp"

#include <cstddef>

namespace qwen::inline HLWQ_CODE_NAMESPACE {
namespace kernel {

// ---- token by token

/// Tokens that pass over a strip of S while it is in the cache.
inline constexpr std::size_t step_tokens = 8;

struct step_factors {
    float decay[step_tokens], beta[step_tokens], key_query[step_tokens];
};

/// Columns [col, col + Vectors · lanes) of S and what depends on them, for `tokens` tokens from `first`.
template <std::size_t Vectors>
HLWQ_INLINE void step_strip(const delta_rule_head& h, std::size_t first, std::size_t tokens, const step_factors& f,
                            std::size_t col) noexcept {
    const std::size_t rows = h.state.rows, stride = h.state.stride;
    float* state = h.state.data + col;
    for (std::size_t t = 0; t < tokens; ++t) {
        const float* q = h.q.data + (first + t) * h.q.stride;
        const float* k = h.k.data + (first + t) * h.k.stride;
        const float* v = h.v.data + (first + t) * h.v.stride + col;
        float* o = h.out.data + (first + t) * h.out.stride + col;
        S::f32 answer[Vectors], read[Vectors];
        HLWQ_UNROLL for (std::size_t c = 0; c < Vectors; ++c) answer[c] = read[c] = S::set(0.0f);
        for (std::size_t i = 0; i < rows; ++i) {
            const auto key = S::set(k[i]), query = S::set(q[i]);
            HLWQ_UNROLL for (std::size_t c = 0; c < Vectors; ++c) {
                const auto s = S::load(state + i * stride + c * S::lanes);
                answer[c] = S::fma(key, s, answer[c]);
                read[c] = S::fma(query, s, read[c]);
            }
        }
        const auto decay = S::set(f.decay[t]), beta = S::set(f.beta[t]), key_query = S::set(f.key_query[t]);
        S::f32 delta[Vectors];
        HLWQ_UNROLL for (std::size_t c = 0; c < Vectors; ++c) {
            const auto missing = S::sub(S::load(v + c * S::lanes), S::mul(decay, answer[c]));
            delta[c] = S::mul(beta, missing);
            S::store(o + c * S::lanes, S::fma(key_query, delta[c], S::mul(decay, read[c])));
        }
        for (std::size_t i = 0; i < rows; ++i) {
            const auto key = S::set(k[i]);
            HLWQ_UNROLL for (std::size_t c = 0; c < Vectors; ++c) {
                float* s = state + i * stride + c * S::lanes;
                S::store(s, S::fma(key, delta[c], S::mul(decay, S::load(s))));
            }
        }
    }
}

/// The same for fewer columns than a vector.
inline void step_rest(const delta_rule_head& h, std::size_t first, std::size_t tokens, const step_factors& f,
                      std::size_t col) noexcept {
    for (; col < h.state.cols; ++col) {
        for (std::size_t t = 0; t < tokens; ++t) {
            const float* q = h.q.data + (first + t) * h.q.stride;
            const float* k = h.k.data + (first + t) * h.k.stride;
            float answer = 0.0f, read = 0.0f;
            for (std::size_t i = 0; i < h.state.rows; ++i) {
                const float s = h.state.data[i * h.state.stride + col];
                answer += k[i] * s;
                read += q[i] * s;
            }
            const float delta = f.beta[t] * (h.v.data[(first + t) * h.v.stride + col] - f.decay[t] * answer);
            h.out.data[(first + t) * h.out.stride + col] = f.decay[t] * read + f.key_query[t] * delta;
            for (std::size_t i = 0; i < h.state.rows; ++i) {
                float& s = h.state.data[i * h.state.stride + col];
                s = f.decay[t] * s + k[i] * delta;
            }
        }
    }
}

inline void delta_rule_recurrent(const delta_rule_head& h) noexcept {
    constexpr std::size_t wide = 4;
    const std::size_t dv = h.state.cols;
    for (std::size_t first = 0; first < h.k.rows; first += step_tokens) {
        const std::size_t left = h.k.rows - first, tokens = left < step_tokens ? left : step_tokens;
        step_factors f;
        map<S>(
            f.decay, tokens, [](S::f32 x) { return exp<S>(x); }, h.g + first);
        for (std::size_t t = 0; t < tokens; ++t) {
            f.beta[t] = h.beta[first + t];
            f.key_query[t] = dot(h.k.data + (first + t) * h.k.stride, h.q.data + (first + t) * h.q.stride, h.k.cols);
        }
        std::size_t col = 0;
        for (; col + wide * S::lanes <= dv; col += wide * S::lanes) step_strip<wide>(h, first, tokens, f, col);
        for (; col + S::lanes <= dv; col += S::lanes) step_strip<1>(h, first, tokens, f, col);
        step_rest(h, first, tokens, f, col);
    }
}

// ---- in chunks

/// Scratch of a chunk. Rows of tokens are padded to full tiles with zeros, which changes nothing; columns of values to
/// whole vectors.
struct chunk_memory {
    static constexpr std::size_t most = delta_rule_chunk;

    static constexpr std::size_t value_cols(std::size_t dv) noexcept { return rounded_up(dv, 16); }
    static constexpr std::size_t floats(std::size_t dk, std::size_t dv) noexcept {
        return 3 * most * rounded_up(dk, 16) + 4 * most * most + 4 * most * value_cols(dv) + 3 * most +
               rounded_up(dk, 16) * value_cols(dv) + 16;
    }
    chunk_memory(float* memory, std::size_t dk_, std::size_t dv_) noexcept : dk(dk_), dv(dv_), cols(value_cols(dv_)) {
        const auto take = [&](std::size_t count) {
            float* taken = memory;
            memory += rounded_up(count, 16);
            return taken;
        };
        q = take(most * dk);
        k = take(most * dk);
        k_t = take(dk * most);
        key_key = take(most * most);
        query_key = take(most * most);
        lower = take(most * most);
        weights = take(most * most);
        v = take(most * cols);
        delta = take(most * cols);
        scaled = take(most * cols);
        o = take(most * cols);
        sum = take(most);
        decay = take(most);
        rest = take(most);
        state = take(dk * cols);
    }

    std::size_t dk, dv, cols;
    float *q, *k;                   // [tokens, dk]
    float* k_t;                     // [dk, most]
    float *key_key, *query_key;     // [tokens, most]; right of the diagonal's tile unused
    float *lower, *weights;         // the same with β and decay; above the diagonal 0
    float *v, *delta, *scaled, *o;  // [tokens, cols]
    float *sum, *decay, *rest;      // G, e^G, e^(G_n − G)
    float* state;                   // [dk, cols], where dv is no multiple of a vector
};

/// What value heads share: from m.q and m.k, n rows each.
inline void prepare_keys(const chunk_memory& m, std::size_t n) noexcept {
    constexpr std::size_t most = chunk_memory::most;
    const std::size_t rows = rounded_up(n, tile_rows);
    for (std::size_t i = n * m.dk; i < rows * m.dk; ++i) m.q[i] = m.k[i] = 0.0f;
    transpose<float>({m.k, m.dk}, rows, m.dk, {m.k_t, most});
    const std::size_t all = rounded_up(rows, S::lanes);
    for (std::size_t i = 0; i < m.dk; ++i) {
        for (std::size_t j = rows; j < all; ++j) m.k_t[i * most + j] = 0.0f;
    }
    for (std::size_t r = 0; r < rows; r += tile_rows) {
        const std::size_t cols = rounded_up(r + tile_rows, S::lanes);
        product<float>({m.k + r * m.dk, m.dk}, tile_rows, {m.k_t, most}, m.dk, {m.key_key + r * most, most}, cols,
                       0.0f);
        product<float>({m.q + r * m.dk, m.dk}, tile_rows, {m.k_t, most}, m.dk, {m.query_key + r * most, most}, cols,
                       0.0f);
    }
}

/// Rows [first, first + tile_rows) of delta: what is left of them after all rows before.
inline void solve_rows(const chunk_memory& m, std::size_t first) noexcept {
    constexpr std::size_t most = chunk_memory::most;
    product<float>({m.lower + first * most, most}, tile_rows, {m.delta, m.cols}, first,
                   {m.delta + first * m.cols, m.cols}, m.cols, 1.0f);
    for (std::size_t col = 0; col < m.cols; col += S::lanes) {
        float* rows = m.delta + first * m.cols + col;
        S::f32 row[tile_rows];
        row[0] = S::load(rows);
        HLWQ_UNROLL for (std::size_t i = 1; i < tile_rows; ++i) {
            const float* factors = m.lower + (first + i) * most + first;
            row[i] = S::load(rows + i * m.cols);
            HLWQ_UNROLL for (std::size_t j = 0; j < i; ++j) row[i] = S::fma(S::set(factors[j]), row[j], row[i]);
            S::store(rows + i * m.cols, row[i]);
        }
    }
}

/// m.o = the outputs of a value head for n tokens whose keys are prepared and whose values are in m.v.
inline void chunk_of_values(const chunk_memory& m, std::size_t n, const float* g, const float* beta,
                            block<float> state) noexcept {
    constexpr std::size_t most = chunk_memory::most;
    const std::size_t rows = rounded_up(n, tile_rows);
    const bool padded = m.cols != m.dv;
    block<float> s = state;
    if (padded) {
        s = {m.state, m.cols};
        for (std::size_t i = 0; i < m.dk; ++i) {
            for (std::size_t c = 0; c < m.cols; ++c) *s.at(i, c) = c < m.dv ? *state.at(i, c) : 0.0f;
        }
    }
    float total = 0.0f;
    for (std::size_t i = 0; i < n; ++i) m.sum[i] = total += g[i];
    for (std::size_t i = n; i < most; ++i) m.sum[i] = total;
    map<S>(
        m.decay, rows, [](S::f32 x) { return exp<S>(x); }, m.sum);
    const auto last = S::set(total);
    map<S>(
        m.rest, rows, [=](S::f32 sum) { return exp<S>(S::sub(last, sum)); }, m.sum);

    // delta = β (V − e^G (K S)), o = e^G (Q S)
    product<float>({m.k, m.dk}, rows, {s.data, s.stride}, m.dk, {m.delta, m.cols}, m.cols, 0.0f);
    product<float>({m.q, m.dk}, rows, {s.data, s.stride}, m.dk, {m.o, m.cols}, m.cols, 0.0f);
    for (std::size_t i = 0; i < rows; ++i) {
        const auto b = S::set(i < n ? beta[i] : 0.0f), decay = S::set(m.decay[i]);
        if (i >= n) {
            for (std::size_t c = 0; c < m.cols; ++c) m.v[i * m.cols + c] = 0.0f;
        }
        map<S>(
            m.delta + i * m.cols, m.cols,
            [=](S::f32 answer, S::f32 v) { return S::mul(b, S::sub(v, S::mul(decay, answer))); }, m.delta + i * m.cols,
            m.v + i * m.cols);
        map<S>(
            m.o + i * m.cols, m.cols, [=](S::f32 o) { return S::mul(decay, o); }, m.o + i * m.cols);
    }

    // lower = −β (K Kᵀ ⊙ D) below the diagonal, weights = Q Kᵀ ⊙ D up to it
    const auto zero = S::set(0.0f);
    for (std::size_t i = 0; i < rows; ++i) {
        const auto b = S::set(i < n ? -beta[i] : 0.0f), here = S::set(m.sum[i]);
        const std::size_t end = rounded_up(i + 1, tile_rows);
        for (std::size_t j = 0; j < end; j += S::lanes) {
            // The exponent of later tokens would be positive: it is never formed.
            const auto d = exp<S>(S::min(zero, S::sub(here, S::load(m.sum + j))));
            S::store(m.lower + i * most + j, S::mul(b, S::mul(d, S::load(m.key_key + i * most + j))));
            S::store(m.weights + i * most + j, S::mul(d, S::load(m.query_key + i * most + j)));
        }
        m.lower[i * most + i] = 0.0f;
        for (std::size_t j = i + 1; j < end; ++j) m.lower[i * most + j] = m.weights[i * most + j] = 0.0f;
    }
    for (std::size_t r = 0; r < rows; r += tile_rows) {
        solve_rows(m, r);
        product<float>({m.weights + r * most, most}, tile_rows, {m.delta, m.cols}, r + tile_rows,
                       {m.o + r * m.cols, m.cols}, m.cols, 1.0f);
    }

    // S ← e^(G_n) S + Kᵀ (e^(G_n − G) delta)
    for (std::size_t i = 0; i < rows; ++i) {
        const auto factor = S::set(m.rest[i]);
        map<S>(
            m.scaled + i * m.cols, m.cols, [=](S::f32 d) { return S::mul(factor, d); }, m.delta + i * m.cols);
    }
    product<float>({m.k_t, most}, m.dk, {m.scaled, m.cols}, rows, s, m.cols, m.decay[n - 1]);
    if (padded) {
        for (std::size_t i = 0; i < m.dk; ++i) {
            for (std::size_t c = 0; c < m.dv; ++c) *state.at(i, c) = *s.at(i, c);
        }
    }
}

inline void copy_row(const float* from, float* to, std::size_t count) noexcept {
    map<S>(
        to, count, [](S::f32 x) { return x; }, from);
}

inline void delta_rule_chunked(const delta_rule_head& h, float* scratch) noexcept {
    const std::size_t dk = h.k.cols, dv = h.v.cols;
    const chunk_memory m(scratch, dk, dv);
    for (std::size_t first = 0; first < h.k.rows; first += delta_rule_chunk) {
        const std::size_t left = h.k.rows - first, n = left < delta_rule_chunk ? left : delta_rule_chunk;
        for (std::size_t t = 0; t < n; ++t) {
            copy_row(h.q.data + (first + t) * h.q.stride, m.q + t * dk, dk);
            copy_row(h.k.data + (first + t) * h.k.stride, m.k + t * dk, dk);
            for (std::size_t c = dv; c < m.cols; ++c) m.v[t * m.cols + c] = 0.0f;
            copy_row(h.v.data + (first + t) * h.v.stride, m.v + t * m.cols, dv);
        }
        prepare_keys(m, n);
        chunk_of_values(m, n, h.g + first, h.beta + first, {h.state.data, h.state.stride});
        for (std::size_t t = 0; t < n; ++t) copy_row(m.o + t * m.cols, h.out.data + (first + t) * h.out.stride, dv);
    }
}

inline std::size_t delta_rule_scratch(std::size_t dk, std::size_t dv) noexcept { return chunk_memory::floats(dk, dv); }

}  // namespace kernel
}  // namespace qwen::inline HLWQ_CODE_NAMESPACE
