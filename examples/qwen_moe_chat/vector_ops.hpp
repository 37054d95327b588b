// qwen_moe_chat/vector_ops.hpp — element by element: sums, norms, activations, rotary embedding
#pragma once

#include "qwen_moe_chat/compute.hpp"
#include "qwen_moe_chat/config.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace qwen {

/// Sum of a[i] * b[i].
float dot(std::span<const float> a, std::span<const float> b) noexcept;
/// y += a x
void add_scaled(std::span<float> y, float a, std::span<const float> x) noexcept;

inline float sigmoid(float x) noexcept { return 1.0f / (1.0f + std::exp(-x)); }
inline float silu(float x) noexcept { return x * sigmoid(x); }
/// ln(1 + eˣ)
inline float softplus(float x) noexcept { return x > 20.0f ? x : std::log1p(std::exp(x)); }

/// out = x · (mean(x²) + eps)^(-1/2) · (1 + w). out may be x.
void zero_centred_norm(std::span<const float> x, std::span<const float> w, float eps, std::span<float> out) noexcept;
/// The same for every row.
void zero_centred_norm(matrix_view<const float> x, std::span<const float> w, float eps, matrix_view<float> out,
                       const compute& how);
/// o ← o · (mean(o²) + eps)^(-1/2) · w · silu(z)
void gated_norm(std::span<float> o, std::span<const float> z, std::span<const float> w, float eps) noexcept;
/// x ← x · (Σ x² + 1e-6)^(-1/2) · scale
void l2_norm(std::span<float> x, float scale) noexcept;

/// x += y
void add(matrix_view<float> x, matrix_view<const float> y) noexcept;
/// gate ← silu(gate) ⊙ up
void gate_silu(matrix_view<float> gate, matrix_view<const float> up, const compute& how);

/// Where a token stands for the rotary embedding: in text all three are its index in the sequence.
struct rope_position {
    std::uint32_t temporal = 0;
    std::uint32_t height = 0;
    std::uint32_t width = 0;
};

/// cos and sin of the angles of a call's tokens, shared by all attention layers.
class rotary_embedding {
  public:
    explicit rotary_embedding(const rope_config& rope);
    void set(std::span<const rope_position> positions);
    /// Rotates the first 2 · frequencies values of one head: pairs (f, f + frequencies).
    void rotate(std::span<float> head, std::size_t token) const noexcept;
    std::size_t frequencies() const noexcept { return frequency_.size(); }
    /// Of a token's angles, one for each frequency.
    const float* cosines(std::size_t token) const noexcept { return cos_.data() + token * frequencies(); }
    const float* sines(std::size_t token) const noexcept { return sin_.data() + token * frequencies(); }

  private:
    std::vector<double> frequency_;
    std::vector<std::uint8_t> axis_;  // 0 temporal, 1 height, 2 width
    std::vector<float> cos_, sin_;    // [tokens, frequencies]
};

}  // namespace qwen
