#include "qwen_moe_chat/moe.hpp"

#include "qwen_moe_chat/kernels.hpp"

#include <algorithm>
#include <array>
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
    s.groups.clear();
    for (std::uint32_t e = 0; e < experts; ++e) {
        if (s.first[e + 1] > s.first[e]) s.groups.push_back({e, s.first[e], s.first[e + 1] - s.first[e]});
    }
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

void choose_experts(std::span<const float> logits, std::span<expert_choice> choices) {
    // Few of many are chosen, so that hardly any logit is above the least of those so far.
    std::size_t count = 0;
    for (std::uint32_t e = 0; e < logits.size(); ++e) {
        const float l = logits[e];
        if (count == choices.size()) {
            if (!(l > logits[choices[count - 1].expert])) continue;
            --count;
        }
        std::size_t at = count++;
        for (; at > 0 && l > logits[choices[at - 1].expert]; --at) choices[at] = choices[at - 1];
        choices[at].expert = e;
    }
    // The softmax over all experts, divided by the winners' share, is the softmax over the winners.
    float sum = 0.0f;
    for (expert_choice& choice : choices) {
        choice.weight = std::exp(logits[choice.expert] - logits[choices[0].expert]);
        sum += choice.weight;
    }
    for (expert_choice& choice : choices) choice.weight /= sum;
}

void forward(const feed_forward& w, linear_input& n, matrix_view<float> out, feed_forward_scratch& scratch,
             const compute& how) {
    const auto gate = scratch.gate.shape(n.rows().rows, rows_of(w.gate));
    const auto up = scratch.up.shape(n.rows().rows, rows_of(w.up));
    const linear_product first[] = {{&w.gate, &n, gate}, {&w.up, &n, up}};
    linear(first, how);
    gate_silu(gate, up, how);
    scratch.h_input.assign(gate);
    linear(w.down, scratch.h_input, out, how);
}

namespace {

/// Experts that are computed together, as many as have a region for all their matrices.
constexpr std::size_t experts_once = hlwq::products_once / 2;
/// Tokens that they have together at most, so that what they compute stays in the caches.
constexpr std::size_t rows_once = 256;

/// Adds to `out` what the groups [begin, end) compute for their tokens. The shared expert may be the last of them.
void add_experts(const moe& w, linear_input& n, matrix_view<float> out, std::size_t begin, std::size_t end,
                 moe_scratch& s, const compute& how) {
    const expert_group* const groups = s.groups.data();
    const std::size_t first_row = groups[begin].begin;
    const expert_group& last = groups[end - 1];
    const bool with_shared = last.expert == expert_group::shared;
    const std::size_t routed_end = with_shared ? end - 1 : end;
    const std::size_t rows = routed_end > begin ? groups[routed_end - 1].end() - first_row : 0;
    // Single tokens are read where they are; those of larger groups are brought together.
    const bool gathered = std::any_of(groups + begin, groups + routed_end, [](const auto& g) { return g.count > 1; });
    if (gathered) s.group.gather(n, std::span(s.tokens).subspan(first_row, rows));

    std::size_t width = 0;
    if (rows != 0) width = rows_of(w.experts[groups[begin].expert].gate);
    const auto gate = s.inner.gate.shape(rows, width), up = s.inner.up.shape(rows, width);
    const std::size_t shared_width = with_shared ? rows_of(w.shared.gate) : 0;
    const auto shared_gate = s.shared_inner.gate.shape(n.rows().rows, shared_width);
    const auto shared_up = s.shared_inner.up.shape(n.rows().rows, shared_width);
    std::array<linear_product, hlwq::products_once> list;
    std::size_t count = 0;
    for (std::size_t i = begin; i < routed_end; ++i) {
        const expert_group& g = groups[i];
        const feed_forward& expert = w.experts[g.expert];
        const std::size_t at = g.begin - first_row;
        linear_input& x = gathered ? s.group : n;
        const std::size_t from = gathered ? at : s.tokens[g.begin];
        list[count++] = {&expert.gate, &x, gate.rows_between(at, at + g.count), from};
        list[count++] = {&expert.up, &x, up.rows_between(at, at + g.count), from};
    }
    if (with_shared) {
        list[count++] = {&w.shared.gate, &n, shared_gate};
        list[count++] = {&w.shared.up, &n, shared_up};
    }
    linear({list.data(), count}, how);

    gate_silu(gate, up, how);
    s.inner.h_input.assign(gate);
    const auto y = s.expert_out.shape(rows + (with_shared ? n.rows().rows : 0), out.cols);
    count = 0;
    for (std::size_t i = begin; i < routed_end; ++i) {
        const std::size_t at = groups[i].begin - first_row;
        list[count++] = {&w.experts[groups[i].expert].down, &s.inner.h_input, y.rows_between(at, at + groups[i].count),
                         at};
    }
    if (with_shared) {
        gate_silu(shared_gate, shared_up, how);
        s.shared_inner.h_input.assign(shared_gate);
        list[count++] = {&w.shared.down, &s.shared_inner.h_input, y.rows_between(rows, y.rows)};
    }
    const auto add = kernels().add_scaled;
    auto sum = [&](std::size_t from, std::size_t to) noexcept {
        for (std::size_t i = first_row; i < first_row + y.rows; ++i) {
            add(out.row(s.tokens[i]).data() + from, s.weights[i], y.row(i - first_row).data() + from, to - from);
        }
    };
    const hlwq::rows_ref finish(sum);
    linear({list.data(), count}, how, &finish);
}

}  // namespace

void forward(const moe& w, const model_config& config, linear_input& n, matrix_view<float> out, moe_scratch& scratch,
             const compute& how) {
    const std::size_t tokens = n.rows().rows, chosen = config.moe.chosen;

    const auto logits = scratch.router_logits.shape(tokens, config.moe.experts);
    const auto shared_gate = scratch.shared_gate.shape(tokens, 1);
    const linear_product gates[] = {{&w.router, &n, logits}, {&w.shared_gate, &n, shared_gate}};
    linear(gates, how);
    scratch.choices.resize(tokens * chosen);
    for (std::size_t t = 0; t < tokens; ++t) {
        choose_experts(logits.row(t), std::span(scratch.choices).subspan(t * chosen, chosen));
    }
    group_by_expert(config.moe.experts, chosen, scratch);
    scratch.groups.push_back({expert_group::shared, scratch.tokens.size(), tokens});
    for (std::size_t t = 0; t < tokens; ++t) {
        scratch.tokens.push_back(static_cast<std::uint32_t>(t));
        scratch.weights.push_back(sigmoid(shared_gate.row(t)[0]));
    }

    for (std::size_t t = 0; t < tokens; ++t) std::ranges::fill(out.row(t), 0.0f);
    const std::vector<expert_group>& groups = scratch.groups;
    for (std::size_t begin = 0, end; begin < groups.size(); begin = end) {
        std::size_t rows = groups[begin].count;
        for (end = begin + 1; end < groups.size() && end - begin < experts_once; ++end) {
            if (rows + groups[end].count > rows_once) break;
            rows += groups[end].count;
        }
        add_experts(w, n, out, begin, end, scratch, how);
    }
}

}  // namespace qwen
