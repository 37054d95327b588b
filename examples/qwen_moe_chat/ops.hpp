// qwen_moe_chat/ops.hpp — what every block is made of: linear layers, norms, rotary embedding, activations
//
// Activations are f32 matrices with a row for each token. A weight matrix is a view of the mapped file, in BF16, F16,
// F32 or packed codes, and is never converted as a whole. The result for a token does not depend on the number of
// threads; nor on the tokens computed beside it, up to rounding where more than eight meet packed codes as bytes.
#pragma once

#include "qwen_moe_chat/config.hpp"

#include "hlwq/executor.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/rotated_input.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

namespace qwen {

using hlwq::matrix_view;

/// How to compute: on which threads, and how packed codes meet their inputs.
struct compute {
    hlwq::executor_ref threads;
    hlwq::precision mode = hlwq::precision::exact;
    /// In mode precise: products of many tokens with codes of at most 6 bits, whose centroids fit a byte, in mode fast.
    bool fast_prefill = false;
};

/// Memory for activations: a matrix of any shape, allocated only when it is larger than all before.
class activations {
  public:
    /// The memory as a matrix of that shape; what it held is lost.
    matrix_view<float> shape(std::size_t rows, std::size_t cols) {
        if (values_.size() < rows * cols) values_.resize(rows * cols);
        return {values_.data(), rows, cols};
    }

  private:
    std::vector<float> values_;
};

/// A weight matrix [out, in] in memory of the checkpoint.
using matrix = std::variant<matrix_view<const hlwq::bfloat16>, matrix_view<const hlwq::half>, matrix_view<const float>,
                            hlwq::packed_matrix_view>;

/// Rows [begin, end) as a matrix of their own.
matrix rows_between(const matrix& w, std::size_t begin, std::size_t end);
/// out = row `index` of w, as floats.
void read_row(const matrix& w, std::size_t index, std::span<float> out);

/// The input of linear layers: rows of activations, and their rotated forms, each made when the first matrix asks for
/// it and shared by all others that agree in block size and signs.
class linear_input {
  public:
    /// Takes rows that stay where they are until the next call.
    void assign(matrix_view<const float> x);
    /// Takes copies of some rows of another input; rotated forms are copied, not computed again.
    void gather(linear_input& from, std::span<const std::uint32_t> tokens);

    matrix_view<const float> rows() const noexcept { return x_; }
    const hlwq::rotated_input& rotated(const hlwq::block_format& format, const compute& how);

  private:
    struct form {
        hlwq::rotated_input values;
        bool current = false;
    };
    matrix_view<const float> x_;
    activations copies_;
    std::vector<form> forms_;
    linear_input* source_ = nullptr;
    std::vector<std::uint32_t> source_tokens_;
};

/// y = x Wᵀ. y [tokens, out].
void linear(const matrix& w, linear_input& x, matrix_view<float> y, const compute& how);

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

  private:
    std::vector<double> frequency_;
    std::vector<std::uint8_t> axis_;  // 0 temporal, 1 height, 2 width
    std::vector<float> cos_, sin_;    // [tokens, frequencies]
};

}  // namespace qwen
