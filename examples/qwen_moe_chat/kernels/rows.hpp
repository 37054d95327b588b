// qwen_moe_chat/kernels/rows.hpp — one row at a time: sums, norms, gates, rotary embedding
#pragma once

#include "qwen_moe_chat/kernels/vector_math.hpp"

#include <cstddef>

namespace qwen::inline HLWQ_CODE_NAMESPACE {
namespace kernel {

using S = hlwq::simd::native;

inline float dot(const float* a, const float* b, std::size_t count) noexcept {
    return sum_of<S>(
        count, [](S::f32 x, S::f32 y) { return S::mul(x, y); }, a, b);
}

/// y += a x
inline void add_scaled(float* y, float a, const float* x, std::size_t count) noexcept {
    const auto factor = S::set(a);
    map<S>(
        y, count, [=](S::f32 sum, S::f32 value) { return S::fma(factor, value, sum); }, y, x);
}

/// (mean(x²) + eps)^(-1/2)
inline float inverse_rms(const float* x, std::size_t count, float eps) noexcept {
    return 1.0f / __builtin_sqrtf(dot(x, x, count) / static_cast<float>(count) + eps);
}

/// out = x · (mean(x²) + eps)^(-1/2) · (1 + w)
inline void zero_centred_norm(const float* x, const float* w, float eps, float* out, std::size_t count) noexcept {
    const auto scale = S::set(inverse_rms(x, count, eps)), one = S::set(1.0f);
    map<S>(
        out, count, [=](S::f32 value, S::f32 weight) { return S::mul(S::mul(value, scale), S::add(one, weight)); }, x,
        w);
}

/// out = o · (mean(o²) + eps)^(-1/2) · w · silu(z)
inline void gated_norm(const float* o, const float* z, const float* w, float eps, float* out,
                       std::size_t count) noexcept {
    const auto scale = S::set(inverse_rms(o, count, eps));
    map<S>(
        out, count,
        [=](S::f32 value, S::f32 gate, S::f32 weight) {
            return S::mul(S::mul(S::mul(value, scale), weight), silu<S>(gate));
        },
        o, z, w);
}

/// x ← x · (Σ x² + 1e-6)^(-1/2) · scale
inline void l2_norm(float* x, float scale, std::size_t count) noexcept {
    const auto factor = S::set(scale / __builtin_sqrtf(dot(x, x, count) + 1e-6f));
    map<S>(
        x, count, [=](S::f32 value) { return S::mul(value, factor); }, x);
}

/// gate ← silu(gate) ⊙ up
inline void silu_product(float* gate, const float* up, std::size_t count) noexcept {
    map<S>(
        gate, count, [](S::f32 g, S::f32 u) { return S::mul(silu<S>(g), u); }, gate, up);
}

/// Rotates the pairs (f, f + frequencies) of a head.
inline void rotate(float* head, const float* cos, const float* sin, std::size_t frequencies) noexcept {
    float* second = head + frequencies;
    std::size_t f = 0;
    for (; f + S::lanes <= frequencies; f += S::lanes) {
        const auto a = S::load(head + f), b = S::load(second + f), c = S::load(cos + f), s = S::load(sin + f);
        S::store(head + f, S::sub(S::mul(a, c), S::mul(b, s)));
        S::store(second + f, S::fma(a, s, S::mul(b, c)));
    }
    for (; f < frequencies; ++f) {
        const float a = head[f], b = second[f];
        head[f] = a * cos[f] - b * sin[f];
        second[f] = b * cos[f] + a * sin[f];
    }
}

/// Heads of a token as attention compares them: normalised, then rotated. Head i begins at x + i · stride.
inline void norm_and_rotate(float* x, std::size_t heads, std::size_t stride, std::size_t head_dim, const float* w,
                            float eps, const float* cos, const float* sin, std::size_t frequencies) noexcept {
    for (std::size_t i = 0; i < heads; ++i) {
        float* head = x + i * stride;
        zero_centred_norm(head, w, eps, head, head_dim);
        rotate(head, cos, sin, frequencies);
    }
}

}  // namespace kernel
}  // namespace qwen::inline HLWQ_CODE_NAMESPACE
