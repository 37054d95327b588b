#include "qwen_moe_chat/moe.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <variant>

namespace qwen {

namespace {

std::size_t rows_of(const matrix& w) {
    return std::visit([](const auto& view) { return view.rows; }, w);
}

/// Sorts the tokens of a call by the expert that they chose; a token appears once for each choice.
void group_by_expert(std::size_t experts, std::size_t chosen, moe_scratch& s) {
    s.first.assign(experts + 1, 0);
    for (const expert_choice& choice : s.choices) ++s.first[choice.expert + 1];
    std::partial_sum(s.first.begin(), s.first.end(), s.first.begin());
    s.tokens.resize(s.choices.size());
    s.weights.resize(s.choices.size());
    s.order.assign(s.first.begin(), s.first.end() - 1);
    for (std::size_t i = 0; i < s.choices.size(); ++i) {
        const std::uint32_t at = s.order[s.choices[i].expert]++;
        s.tokens[at] = static_cast<std::uint32_t>(i / chosen);
        s.weights[at] = s.choices[i].weight;
    }
}

}  // namespace

void choose_experts(std::span<const float> logits, std::span<expert_choice> choices,
                    std::vector<std::uint32_t>& order) {
    order.resize(logits.size());
    std::iota(order.begin(), order.end(), 0u);
    std::partial_sort(
        order.begin(), order.begin() + static_cast<std::ptrdiff_t>(choices.size()), order.end(),
        [&](std::uint32_t a, std::uint32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
    // The softmax over all experts, divided by the winners' share, is the softmax over the winners.
    float sum = 0.0f;
    for (std::size_t i = 0; i < choices.size(); ++i) {
        choices[i] = {order[i], std::exp(logits[order[i]] - logits[order[0]])};
        sum += choices[i].weight;
    }
    for (expert_choice& choice : choices) choice.weight /= sum;
}

void forward(const feed_forward& w, linear_input& n, matrix_view<float> out, feed_forward_scratch& scratch,
             const compute& how) {
    const auto gate = scratch.gate.shape(n.rows().rows, rows_of(w.gate));
    const auto up = scratch.up.shape(n.rows().rows, rows_of(w.up));
    linear(w.gate, n, gate, how);
    linear(w.up, n, up, how);
    gate_silu(gate, up, how);
    scratch.h_input.assign(gate);
    linear(w.down, scratch.h_input, out, how);
}

void forward(const moe& w, const model_config& config, linear_input& n, matrix_view<float> out, moe_scratch& scratch,
             const compute& how) {
    const std::size_t tokens = n.rows().rows, chosen = config.moe.chosen;

    const auto logits = scratch.router_logits.shape(tokens, config.moe.experts);
    linear(w.router, n, logits, how);
    scratch.choices.resize(tokens * chosen);
    for (std::size_t t = 0; t < tokens; ++t) {
        choose_experts(logits.row(t), std::span(scratch.choices).subspan(t * chosen, chosen), scratch.order);
    }
    group_by_expert(config.moe.experts, chosen, scratch);

    for (std::size_t t = 0; t < tokens; ++t) std::ranges::fill(out.row(t), 0.0f);
    for (std::size_t e = 0; e < config.moe.experts; ++e) {
        const std::size_t begin = scratch.first[e], count = scratch.first[e + 1] - begin;
        if (count == 0) continue;
        const auto group = std::span(scratch.tokens).subspan(begin, count);
        const auto y = scratch.expert_out.shape(count, config.hidden);
        scratch.group.gather(n, group);
        forward(w.experts[e], scratch.group, y, scratch.inner, how);
        for (std::size_t i = 0; i < count; ++i) add_scaled(out.row(group[i]), scratch.weights[begin + i], y.row(i));
    }

    const auto shared = scratch.shared.shape(tokens, config.hidden);
    const auto shared_gate = scratch.shared_gate.shape(tokens, 1);
    forward(w.shared, n, shared, scratch.inner, how);
    linear(w.shared_gate, n, shared_gate, how);
    for (std::size_t t = 0; t < tokens; ++t) add_scaled(out.row(t), sigmoid(shared_gate.row(t)[0]), shared.row(t));
}

}  // namespace qwen
