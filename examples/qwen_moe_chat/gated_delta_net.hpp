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
// Between the two weight products each key head goes its own way, in one parallel region for all sequences. Many tokens
// go through the chunked form of the recurrence (kernels/delta_rule.hpp), equal up to rounding.
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

/// Memory of a forward pass.
struct gated_delta_net_scratch {
    /// State of a sequence in this layer, ready to be written.
    struct writable {
        float *tail, *memory;
    };
    std::vector<writable> states;
    activations u, z, b, a, o, worker;
    linear_input o_input;
};

/// out = gated delta net of n. n, out [tokens, hidden]; every sequence continues from its state of that layer.
void forward(const gated_delta_net& w, const model_config& config, std::size_t layer, linear_input& n,
             std::span<const sequence_rows> sequences, matrix_view<float> out, gated_delta_net_scratch& scratch,
             const compute& how);

}  // namespace qwen
