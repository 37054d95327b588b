#include "qwen_moe_chat/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace qwen {

namespace {

/// out = Σ softmax(scale · query · key) value over the first `tokens` of the cache, for the head whose keys and values
/// begin at column `first`. One pass over the pages: what was summed is rescaled when a larger score appears.
void attend(std::span<const float> query, const kv_cache& cache, std::size_t tokens, std::size_t first, float scale,
            std::span<float> out) noexcept {
    const std::size_t head_dim = query.size();
    float largest = -std::numeric_limits<float>::infinity(), sum = 0.0f;
    std::ranges::fill(out, 0.0f);
    for (std::size_t page = 0; page * kv_cache::page_tokens < tokens; ++page) {
        const auto keys = cache.keys(page), values = cache.values(page);
        const std::size_t count = std::min(kv_cache::page_tokens, tokens - page * kv_cache::page_tokens);
        float score[kv_cache::page_tokens];
        float most = largest;
        for (std::size_t i = 0; i < count; ++i) {
            score[i] = scale * dot(query, keys.row(i).subspan(first, head_dim));
            most = std::max(most, score[i]);
        }
        if (most > largest) {
            const float shrink = std::exp(largest - most);
            for (float& value : out) value *= shrink;
            sum *= shrink;
            largest = most;
        }
        for (std::size_t i = 0; i < count; ++i) {
            const float p = std::exp(score[i] - largest);
            sum += p;
            add_scaled(out, p, values.row(i).subspan(first, head_dim));
        }
    }
    for (float& value : out) value /= sum;
}

}  // namespace

void forward(const attention& w, const model_config& config, std::size_t layer, linear_input& n,
             const rotary_embedding& rope, std::span<const sequence_rows> sequences, matrix_view<float> out,
             attention_scratch& scratch, const compute& how) {
    const attention_config& dims = config.attention;
    const std::size_t tokens = n.rows().rows, heads = dims.heads, head_dim = dims.head_dim;
    const std::size_t heads_a_kv = heads / dims.kv_heads;

    const auto q = scratch.q.shape(tokens, heads * 2 * head_dim);
    const auto k = scratch.k.shape(tokens, dims.kv_width());
    const auto v = scratch.v.shape(tokens, dims.kv_width());
    linear(w.q, n, q, how);
    linear(w.k, n, k, how);
    linear(w.v, n, v, how);
    const auto query = [&](std::size_t t, std::size_t head) { return q.row(t).subspan(head * 2 * head_dim, head_dim); };
    const auto gate = [&](std::size_t t, std::size_t head) {
        return q.row(t).subspan((head * 2 + 1) * head_dim, head_dim);
    };

    how.threads.parallel_for(tokens, 8, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t t = begin; t < end; ++t) {
            for (std::size_t head = 0; head < heads; ++head) {
                const auto x = query(t, head);
                zero_centred_norm(x, w.q_norm, config.norm_epsilon, x);
                rope.rotate(x, t);
            }
            for (std::size_t head = 0; head < dims.kv_heads; ++head) {
                const auto x = k.row(t).subspan(head * head_dim, head_dim);
                zero_centred_norm(x, w.k_norm, config.norm_epsilon, x);
                rope.rotate(x, t);
            }
        }
    });

    const auto o = scratch.o.shape(tokens, heads * head_dim);
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    for (const sequence_rows& rows : sequences) {
        kv_cache& cache = rows.state->kv(layer);
        const std::size_t past = cache.size(), count = rows.end - rows.begin;
        for (std::size_t t = rows.begin; t < rows.end; ++t) {
            const auto [key, value] = cache.append();
            std::ranges::copy(k.row(t), key.begin());
            std::ranges::copy(v.row(t), value.begin());
        }
        how.threads.parallel_for(count * heads, 1, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
            for (std::size_t i = begin; i < end; ++i) {
                // Tokens turn fastest: the last ones have the most to read, and every worker gets some of them.
                const std::size_t t = i % count, head = i / count;
                const auto o_head = o.row(rows.begin + t).subspan(head * head_dim, head_dim);
                attend(query(rows.begin + t, head), cache, past + t + 1, head / heads_a_kv * head_dim, scale, o_head);
                const auto g = gate(rows.begin + t, head);
                for (std::size_t c = 0; c < head_dim; ++c) o_head[c] *= sigmoid(g[c]);
            }
        });
    }
    scratch.o_input.assign(o);
    linear(w.o, scratch.o_input, out, how);
}

}  // namespace qwen
