#include "qwen_moe_chat/vector_ops.hpp"

#include "hlwq/simd/backend.hpp"

#include <cmath>

namespace qwen {

float dot(std::span<const float> a, std::span<const float> b) noexcept {
    using S = hlwq::simd::native;
    constexpr std::size_t sums = 4, lanes = S::lanes;
    S::f32 sum[sums];
    for (auto& part : sum) part = S::set(0.0f);
    std::size_t i = 0;
    for (; i + sums * lanes <= a.size(); i += sums * lanes) {
        for (std::size_t k = 0; k < sums; ++k) {
            sum[k] = S::fma(S::load(a.data() + i + k * lanes), S::load(b.data() + i + k * lanes), sum[k]);
        }
    }
    for (; i + lanes <= a.size(); i += lanes) sum[0] = S::fma(S::load(a.data() + i), S::load(b.data() + i), sum[0]);
    float out = S::reduce_add(S::add(S::add(sum[0], sum[1]), S::add(sum[2], sum[3])));
    for (; i < a.size(); ++i) out += a[i] * b[i];
    return out;
}

void add_scaled(std::span<float> y, float a, std::span<const float> x) noexcept {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += a * x[i];
}

void zero_centred_norm(std::span<const float> x, std::span<const float> w, float eps, std::span<float> out) noexcept {
    const float scale = 1.0f / std::sqrt(dot(x, x) / static_cast<float>(x.size()) + eps);
    for (std::size_t i = 0; i < x.size(); ++i) out[i] = x[i] * scale * (1.0f + w[i]);
}

void zero_centred_norm(matrix_view<const float> x, std::span<const float> w, float eps, matrix_view<float> out,
                       const compute& how) {
    how.threads.parallel_for(x.rows, 1 + 16384 / x.cols, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t t = begin; t < end; ++t) zero_centred_norm(x.row(t), w, eps, out.row(t));
    });
}

void gated_norm(std::span<float> o, std::span<const float> z, std::span<const float> w, float eps) noexcept {
    const float scale = 1.0f / std::sqrt(dot(o, o) / static_cast<float>(o.size()) + eps);
    for (std::size_t i = 0; i < o.size(); ++i) o[i] = o[i] * scale * w[i] * silu(z[i]);
}

void l2_norm(std::span<float> x, float scale) noexcept {
    constexpr float eps = 1e-6f;
    const float factor = scale / std::sqrt(dot(x, x) + eps);
    for (float& value : x) value *= factor;
}

void add(matrix_view<float> x, matrix_view<const float> y) noexcept {
    for (std::size_t t = 0; t < x.rows; ++t) add_scaled(x.row(t), 1.0f, y.row(t));
}

void gate_silu(matrix_view<float> gate, matrix_view<const float> up, const compute& how) {
    const std::size_t grain = 1 + 2048 / (gate.cols + 1);
    how.threads.parallel_for(gate.rows, grain, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t t = begin; t < end; ++t) {
            const auto g = gate.row(t);
            const auto u = up.row(t);
            for (std::size_t i = 0; i < g.size(); ++i) g[i] = silu(g[i]) * u[i];
        }
    });
}

rotary_embedding::rotary_embedding(const rope_config& rope)
    : frequency_(rope.rotary_dim / 2), axis_(rope.rotary_dim / 2) {
    for (std::size_t f = 0; f < frequency_.size(); ++f) {
        // w_f = theta^(-2 f / rotary_dim)
        const double exponent = -2.0 * static_cast<double>(f) / static_cast<double>(rope.rotary_dim);
        frequency_[f] = std::pow(rope.theta, exponent);
        // Interleaved: t h w t h w ..., as long as height and width have frequencies left, then t.
        const std::size_t turn = f % 3;
        axis_[f] = static_cast<std::uint8_t>(turn != 0 && f < 3 * rope.sections[turn] ? turn : 0);
    }
}

void rotary_embedding::set(std::span<const rope_position> positions) {
    const std::size_t frequencies = frequency_.size();
    cos_.resize(positions.size() * frequencies);
    sin_.resize(positions.size() * frequencies);
    for (std::size_t t = 0; t < positions.size(); ++t) {
        const std::uint32_t position[3] = {positions[t].temporal, positions[t].height, positions[t].width};
        for (std::size_t f = 0; f < frequencies; ++f) {
            // In double: positions reach 262143, where a float's angle would be off by 0.01.
            const double angle = position[axis_[f]] * frequency_[f];
            cos_[t * frequencies + f] = static_cast<float>(std::cos(angle));
            sin_[t * frequencies + f] = static_cast<float>(std::sin(angle));
        }
    }
}

void rotary_embedding::rotate(std::span<float> head, std::size_t token) const noexcept {
    const std::size_t frequencies = frequency_.size();
    const float* c = cos_.data() + token * frequencies;
    const float* s = sin_.data() + token * frequencies;
    for (std::size_t f = 0; f < frequencies; ++f) {
        const float a = head[f], b = head[f + frequencies];
        head[f] = a * c[f] - b * s[f];
        head[f + frequencies] = b * c[f] + a * s[f];
    }
}

}  // namespace qwen
