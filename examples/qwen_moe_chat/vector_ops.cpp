#include "qwen_moe_chat/vector_ops.hpp"

#include "qwen_moe_chat/kernels.hpp"

#include <cmath>

namespace qwen {

float dot(std::span<const float> a, std::span<const float> b) noexcept {
    return kernels().dot(a.data(), b.data(), a.size());
}

void add_scaled(std::span<float> y, float a, std::span<const float> x) noexcept {
    kernels().add_scaled(y.data(), a, x.data(), y.size());
}

void zero_centred_norm(std::span<const float> x, std::span<const float> w, float eps, std::span<float> out) noexcept {
    kernels().zero_centred_norm(x.data(), w.data(), eps, out.data(), x.size());
}

void zero_centred_norm(matrix_view<const float> x, std::span<const float> w, float eps, matrix_view<float> out,
                       const compute& how) {
    how.threads.parallel_for(x.rows, 1 + 32768 / x.cols, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t t = begin; t < end; ++t) zero_centred_norm(x.row(t), w, eps, out.row(t));
    });
}

void gated_norm(std::span<float> o, std::span<const float> z, std::span<const float> w, float eps) noexcept {
    kernels().gated_norm(o.data(), z.data(), w.data(), eps, o.data(), o.size());
}

void l2_norm(std::span<float> x, float scale) noexcept { kernels().l2_norm(x.data(), scale, x.size()); }

void add(matrix_view<float> x, matrix_view<const float> y) noexcept {
    for (std::size_t t = 0; t < x.rows; ++t) add_scaled(x.row(t), 1.0f, y.row(t));
}

void gate_silu(matrix_view<float> gate, matrix_view<const float> up, const compute& how) {
    const std::size_t grain = 1 + 16384 / (gate.cols + 1);
    how.threads.parallel_for(gate.rows, grain, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t t = begin; t < end; ++t)
            kernels().silu_product(gate.row(t).data(), up.row(t).data(), gate.cols);
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
    kernels().rotate(head.data(), cosines(token), sines(token), frequencies());
}

}  // namespace qwen
