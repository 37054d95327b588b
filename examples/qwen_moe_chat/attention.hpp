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
    /// Tokens whose queries go through the cache together, for one kv head.
    struct tile {
        const kv_cache* cache = nullptr;
        std::size_t kv_head = 0, row = 0, tokens = 0;
        std::size_t position = 0;         // of the first token in its sequence
        std::size_t seen = 0, parts = 0;  // where in `seen` the first part keeps what it has seen; how many there are
    };
    /// Pages of a tile.
    struct part {
        std::size_t tile, begin, end, seen;
    };
    std::vector<tile> tiles;
    std::vector<part> parts;
    activations q, k, v, o, seen, worker;
    linear_input o_input;
};

/// out = gated attention of n. n, out [tokens, hidden]; every sequence appends to its keys and values of that layer.
void forward(const attention& w, const model_config& config, std::size_t layer, linear_input& n,
             const rotary_embedding& rope, std::span<const sequence_rows> sequences, matrix_view<float> out,
             attention_scratch& scratch, const compute& how);

}  // namespace qwen
