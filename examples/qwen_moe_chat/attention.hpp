// qwen_moe_chat/attention.hpp — the gated attention layer
//
//   per head: query | gate = n qᵀ          q [heads, 2 · head_dim]: the gate's rows behind the query's, head by head
//   k = n kᵀ, v = n vᵀ
//   query, k ← rope(norm(·))               the gate has neither
//   p = softmax(query · k / √head_dim)     over all tokens up to this one; query head j reads kv head j / (heads / kv)
//   out = (Σ p v ⊙ sigmoid(gate)) oᵀ
#pragma once

#include "qwen_moe_chat/config.hpp"
#include "qwen_moe_chat/ops.hpp"
#include "qwen_moe_chat/sequence_state.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace qwen {

/// Weights.
struct attention {
    matrix q;                   // [heads · 2 · head_dim, hidden]
    matrix k, v;                // [kv heads · head_dim, hidden]
    matrix o;                   // [hidden, heads · head_dim]
    std::vector<float> q_norm;  // [head_dim], zero-centred
    std::vector<float> k_norm;  // [head_dim], zero-centred
};

/// Memory of a forward pass.
struct attention_scratch {
    activations q, k, v, o;
    linear_input o_input;
};

/// out = gated attention of n. n, out [tokens, hidden]; every sequence appends to its keys and values of that layer.
void forward(const attention& w, const model_config& config, std::size_t layer, linear_input& n,
             const rotary_embedding& rope, std::span<const sequence_rows> sequences, matrix_view<float> out,
             attention_scratch& scratch, const compute& how);

}  // namespace qwen
