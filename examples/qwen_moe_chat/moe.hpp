// qwen_moe_chat/moe.hpp — the feed-forward half of a layer: a dense one, or a mixture of experts with a shared one
//
//   feed_forward(n) = down( silu(gate n) ⊙ (up n) )
//
//   r = n routerᵀ; the `chosen` largest win, the lower index on a tie; w = softmax over the winners
//   out = Σ w_e · expert_e(n) + sigmoid(n · shared_gateᵀ) · shared(n)
//
// Tokens are grouped by expert, so that the weights of an expert are read once a call. Experts are computed together,
// up to sixteen, the shared one among them: one parallel region for all their gates and ups, one for all downs and
// their sum. A token adds its experts in ascending order, the shared one last, whatever the group.
#pragma once

#include "qwen_moe_chat/config.hpp"
#include "qwen_moe_chat/ops.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace qwen {

/// Weights of a dense layer or of one expert.
struct feed_forward {
    matrix gate, up;  // [width, hidden]
    matrix down;      // [hidden, width]
};

/// Weights of a mixture of experts.
struct moe {
    matrix router;  // [experts, hidden]
    std::vector<feed_forward> experts;
    feed_forward shared;
    matrix shared_gate;  // [1, hidden]
};

/// An expert that a token chose, and the weight of its output.
struct expert_choice {
    std::uint32_t expert = 0;
    float weight = 0.0f;
};

struct feed_forward_scratch {
    activations gate, up;
    linear_input h_input;
};

/// The tokens of a call that chose an expert, or all of them for the shared one: `count` entries of moe_scratch's
/// lists.
struct expert_group {
    static constexpr std::uint32_t shared = 0xffffffffu;
    std::uint32_t expert = 0;
    std::size_t begin = 0, count = 0;
    std::size_t end() const noexcept { return begin + count; }
};

struct moe_scratch {
    activations router_logits, shared_gate, expert_out;
    std::vector<expert_choice> choices;  // [tokens, chosen], best first
    std::vector<std::uint32_t> order;    // [experts], where the next token of each expert goes
    std::vector<std::uint32_t> first;    // [experts + 1], where the group of each expert begins
    std::vector<expert_group> groups;    // ascending by expert, the shared one last
    std::vector<std::uint32_t> tokens;   // [tokens · chosen + tokens], grouped by expert
    std::vector<float> weights;          // of the same
    linear_input group;
    feed_forward_scratch inner, shared_inner;
};

/// The `choices.size()` largest logits in descending order, the lower index first on a tie, and their softmax. There
/// are no fewer logits than choices.
void choose_experts(std::span<const float> logits, std::span<expert_choice> choices);

/// n, out [tokens, hidden].
void forward(const feed_forward& w, linear_input& n, matrix_view<float> out, feed_forward_scratch& scratch,
             const compute& how);
void forward(const moe& w, const model_config& config, linear_input& n, matrix_view<float> out, moe_scratch& scratch,
             const compute& how);

}  // namespace qwen
