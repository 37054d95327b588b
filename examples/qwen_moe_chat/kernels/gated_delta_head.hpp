// qwen_moe_chat/kernels/gated_delta_head.hpp — a key head of a gated delta net, from the convolution to the gated norm
//
// Everything between the two weight products, for the tokens of one sequence: what the convolution gives stays in the
// cache until the delta rule has used it, and its output until the gated norm has.
#pragma once

#include "qwen_moe_chat/kernels/delta_rule.hpp"

#include <cstddef>

namespace qwen::inline HLWQ_CODE_NAMESPACE {
namespace kernel {

/// Tokens from which on the chunked form is faster.
inline constexpr std::size_t least_for_chunks = 8;

/// out = silu(causal convolution) of channels that lie behind each other, for token t of u [tokens, width]; rows of u,
/// tail and conv are `channels` apart.
inline void convolve(const float* u, const float* tail, const float* conv, std::size_t taps, std::size_t channels,
                     std::size_t width, std::size_t t, float* out) noexcept {
    constexpr std::size_t usual = 4;
    const std::size_t kept = taps - 1;
    const auto row = [&](std::size_t j) {
        return t + j < kept ? tail + (t + j) * channels : u + (t + j - kept) * channels;
    };
    if (taps == usual) {
        const float *u0 = row(0), *u1 = row(1), *u2 = row(2), *u3 = row(3);
        const float *w0 = conv, *w1 = conv + channels, *w2 = conv + 2 * channels, *w3 = conv + 3 * channels;
        map<S>(
            out, width,
            [](S::f32 a0, S::f32 a1, S::f32 a2, S::f32 a3, S::f32 b0, S::f32 b1, S::f32 b2, S::f32 b3) {
                const auto sum = S::fma(b1, a1, S::mul(b0, a0));
                return silu<S>(S::fma(b3, a3, S::fma(b2, a2, sum)));
            },
            u0, u1, u2, u3, w0, w1, w2, w3);
        return;
    }
    for (std::size_t i = 0; i < width; ++i) out[i] = 0.0f;
    for (std::size_t j = 0; j < taps; ++j) {
        map<S>(
            out, width, [](S::f32 sum, S::f32 a, S::f32 b) { return S::fma(b, a, sum); }, out, row(j),
            conv + j * channels);
    }
    map<S>(
        out, width, [](S::f32 x) { return silu<S>(x); }, out);
}

inline void causal_convolution(const float* u, const float* tail, const float* conv, std::size_t taps,
                               std::size_t channels, std::size_t width, std::size_t tokens, float* out,
                               std::size_t out_stride) noexcept {
    for (std::size_t t = 0; t < tokens; ++t) {
        convolve(u, tail, conv, taps, channels, width, t, out + t * out_stride);
    }
}

/// The last rows of (tail ++ u).
inline void advance_tail(const float* u, float* tail, std::size_t taps, std::size_t channels, std::size_t width,
                         std::size_t tokens) noexcept {
    const std::size_t kept = taps - 1;
    for (std::size_t j = 0; j < kept; ++j) {
        const float* from = tokens + j < kept ? tail + (tokens + j) * channels : u + (tokens + j - kept) * channels;
        copy_row(from, tail + j * channels, width);
    }
}

/// beta = sigmoid(b), g = −exp(A_log) · softplus(a + dt_bias) of value head h, for `count` tokens from `first`.
inline void gates(const gated_delta_head& head, std::size_t h, std::size_t first, std::size_t count, float* g,
                  float* beta) noexcept {
    for (std::size_t t = 0; t < count; ++t) {
        beta[t] = head.b[(first + t) * head.heads + h];
        g[t] = head.a[(first + t) * head.heads + h];
    }
    const auto bias = S::set(head.dt_bias[h]), rate = S::sub(S::set(0.0f), exp<S>(S::set(head.a_log[h])));
    map<S>(
        beta, count, [](S::f32 b) { return sigmoid<S>(b); }, beta);
    map<S>(
        g, count, [=](S::f32 a) { return S::mul(rate, softplus<S>(S::add(a, bias))); }, g);
}

/// q and k of `count` tokens from `first`, convolved and normalised.
inline void convolve_keys(const gated_delta_head& head, std::size_t first, std::size_t count, float* q,
                          float* k) noexcept {
    const std::size_t dk = head.key_dim;
    const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(dk));
    for (std::size_t t = 0; t < count; ++t) {
        convolve(head.u_q, head.tail_q, head.conv_q, head.kernel, head.channels, dk, first + t, q + t * dk);
        l2_norm(q + t * dk, scale, dk);
        convolve(head.u_k, head.tail_k, head.conv_k, head.kernel, head.channels, dk, first + t, k + t * dk);
        l2_norm(k + t * dk, 1.0f, dk);
    }
}

inline void run_gated_delta_head(const gated_delta_head& head, float* scratch) noexcept {
    const std::size_t dk = head.key_dim, dv = head.value_dim;
    const chunk_memory m(scratch, dk, dv);
    float g[delta_rule_chunk], beta[delta_rule_chunk];
    const bool chunked = head.tokens >= least_for_chunks;
    for (std::size_t first = 0; first < head.tokens; first += delta_rule_chunk) {
        const std::size_t left = head.tokens - first, n = left < delta_rule_chunk ? left : delta_rule_chunk;
        convolve_keys(head, first, n, m.q, m.k);
        if (chunked) prepare_keys(m, n);
        for (std::size_t h = 0; h < head.value_heads; ++h) {
            for (std::size_t t = 0; t < n; ++t) {
                float* v = m.v + t * m.cols;
                convolve(head.u_v + h * dv, head.tail_v + h * dv, head.conv_v + h * dv, head.kernel, head.channels, dv,
                         first + t, v);
                for (std::size_t c = dv; c < m.cols; ++c) v[c] = 0.0f;
            }
            gates(head, h, first, n, g, beta);
            float* state = head.state + h * dk * dv;
            if (chunked) {
                chunk_of_values(m, n, g, beta, {state, dv});
            } else {
                delta_rule_head step;
                step.q = {m.q, n, dk};
                step.k = {m.k, n, dk};
                step.v = {m.v, n, dv, m.cols};
                step.g = g;
                step.beta = beta;
                step.state = {state, dk, dv};
                step.out = {m.o, n, dv, m.cols};
                delta_rule_recurrent(step);
            }
            for (std::size_t t = 0; t < n; ++t) {
                const std::size_t at = (first + t) * head.values + h * dv;
                gated_norm(m.o + t * m.cols, head.z + at, head.norm, head.norm_epsilon, head.out + at, dv);
            }
        }
    }
    advance_tail(head.u_q, head.tail_q, head.kernel, head.channels, dk, head.tokens);
    advance_tail(head.u_k, head.tail_k, head.kernel, head.channels, dk, head.tokens);
    advance_tail(head.u_v, head.tail_v, head.kernel, head.channels, head.value_heads * dv, head.tokens);
}

}  // namespace kernel
}  // namespace qwen::inline HLWQ_CODE_NAMESPACE
