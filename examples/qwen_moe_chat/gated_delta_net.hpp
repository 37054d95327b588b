// qwen_moe_chat/gated_delta_net.hpp — the linear attention layer: a convolution, then a memory that learns by the
// delta rule and forgets
//
//   u = n qkvᵀ, z, b, a                    u [tokens, channels]: q, k, v head-major one behind the other
//   c_t = silu(Σ_j conv[j] · u_(t-3+j))    causal, per channel; the last inputs are kept as `tail`
//   q = l2(q) / √dk, k = l2(k)             value head h uses key head h / (value heads / key heads)
//   β = sigmoid(b), g = −exp(A_log) · softplus(a + dt_bias)
//
//   per value head and token, S [dk, dv]:  S ← e^g S;  d = β (v − Sᵀ k);  S ← S + k ⊗ d;  o = Sᵀ q
//
//   out = gated_norm(o, z) outᵀ
//
// Many tokens go through the chunked form of the same recurrence (`delta_rule_chunked`), equal up to rounding.
#pragma once

#include "qwen_moe_chat/config.hpp"
#include "qwen_moe_chat/ops.hpp"
#include "qwen_moe_chat/sequence_state.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace qwen {

/// Weights.
struct gated_delta_net {
    matrix in_qkv;               // [channels, hidden]
    matrix in_z;                 // [value heads · dv, hidden]
    matrix in_b, in_a;           // [value heads, hidden]
    std::vector<float> conv;     // [kernel, channels]: a row for each tap, the last one meets the current token
    std::vector<float> a_log;    // [value heads]
    std::vector<float> dt_bias;  // [value heads]
    std::vector<float> norm;     // [dv]
    matrix out;                  // [hidden, value heads · dv]
};

/// One value head over the tokens of a call.
struct delta_rule_head {
    matrix_view<const float> q, k;   // [tokens, dk]
    matrix_view<const float> v;      // [tokens, dv]
    std::span<const float> g, beta;  // [tokens]
    matrix_view<float> state;        // S [dk, dv], updated
    matrix_view<float> out;          // o [tokens, dv]
};

/// Tokens that the chunked form takes at once.
inline constexpr std::size_t delta_rule_chunk = 64;

/// Floats of scratch that `delta_rule_chunked` needs.
std::size_t delta_rule_scratch(std::size_t dk, std::size_t dv) noexcept;

/// Token by token: the definition.
void delta_rule_recurrent(const delta_rule_head& head) noexcept;
/// Chunk by chunk.
void delta_rule_chunked(const delta_rule_head& head, std::span<float> scratch) noexcept;

/// c = silu(causal convolution of u), channels [begin, end); the tail is left as it was. u, c [tokens, channels].
void causal_convolution(matrix_view<const float> u, std::span<const float> tail, std::span<const float> conv,
                        matrix_view<float> c, std::size_t begin, std::size_t end) noexcept;
/// The tail after u: the last rows of (tail ++ u).
void advance_tail(matrix_view<const float> u, std::span<float> tail) noexcept;

/// Memory of a forward pass.
struct gated_delta_net_scratch {
    activations u, z, b, a, c, g, beta, o, chunk;
    linear_input o_input;
};

/// out = gated delta net of n. n, out [tokens, hidden]; every sequence continues from its state of that layer.
void forward(const gated_delta_net& w, const model_config& config, std::size_t layer, linear_input& n,
             std::span<const sequence_rows> sequences, matrix_view<float> out, gated_delta_net_scratch& scratch,
             const compute& how);

}  // namespace qwen
