#include "qwen_moe_chat/gated_delta_net.hpp"

#include <algorithm>
#include <cmath>

namespace qwen {

namespace {

/// A matrix that is read by rows or, transposed, by columns.
struct strided {
    const float* data;
    std::size_t row, col;
    float at(std::size_t i, std::size_t j) const noexcept { return data[i * row + j * col]; }
};

/// out[i, :] += Σ_j a[i, j] · b[j, :] for i < rows, j < depth.
void add_product(strided a, std::size_t rows, std::size_t depth, matrix_view<const float> b,
                 matrix_view<float> out) noexcept {
    constexpr std::size_t height = 4, width = 32;  // a tile of out in registers
    for (std::size_t first = 0; first < rows; first += height) {
        const std::size_t count = std::min(height, rows - first);
        std::size_t col = 0;
        for (; count == height && col + width <= out.cols; col += width) {
            float tile[height][width];
            for (std::size_t r = 0; r < height; ++r) {
                std::copy_n(out.row(first + r).data() + col, width, tile[r]);
            }
            for (std::size_t j = 0; j < depth; ++j) {
                const float* from = b.row(j).data() + col;
                for (std::size_t r = 0; r < height; ++r) {
                    const float factor = a.at(first + r, j);
                    for (std::size_t c = 0; c < width; ++c) tile[r][c] += factor * from[c];
                }
            }
            for (std::size_t r = 0; r < height; ++r) {
                std::copy_n(tile[r], width, out.row(first + r).data() + col);
            }
        }
        for (std::size_t r = first; r < first + count; ++r) {
            const auto to = out.row(r).subspan(col);
            for (std::size_t j = 0; j < depth; ++j) add_scaled(to, a.at(r, j), b.row(j).subspan(col));
        }
    }
}

/// The head's rows [begin, end).
delta_rule_head tokens_between(const delta_rule_head& head, std::size_t begin, std::size_t end) noexcept {
    delta_rule_head part = head;
    part.q = head.q.rows_between(begin, end);
    part.k = head.k.rows_between(begin, end);
    part.v = head.v.rows_between(begin, end);
    part.g = head.g.subspan(begin, end - begin);
    part.beta = head.beta.subspan(begin, end - begin);
    part.out = head.out.rows_between(begin, end);
    return part;
}

/// At most delta_rule_chunk tokens:
///   G_i = Σ_(j≤i) g_j,  D_ij = e^(G_i − G_j) for j ≤ i
///   (I + strictly lower (β K Kᵀ ⊙ D)) Ṽ = β (V − e^G (K S))
///   O = e^G (Q S) + (Q Kᵀ ⊙ D) Ṽ
///   S ← e^(G_n) S + (e^(G_n − G_j) K)ᵀ Ṽ
void delta_rule_chunk_of(const delta_rule_head& head, std::span<float> scratch) noexcept {
    constexpr std::size_t most = delta_rule_chunk;
    const std::size_t n = head.k.rows, dk = head.k.cols, dv = head.v.cols;
    float* at = scratch.data();
    const auto take = [&](std::size_t rows, std::size_t cols) {
        const matrix_view<float> taken(at, rows, cols);
        at += rows * cols;
        return taken;
    };
    const matrix_view<float> delta = take(n, dv), weights = take(n, most), decayed_k = take(n, dk);
    float sum[most], decay[most];  // G and e^G
    for (std::size_t i = 0; i < n; ++i) {
        sum[i] = head.g[i] + (i == 0 ? 0.0f : sum[i - 1]);
        decay[i] = std::exp(sum[i]);
    }

    // delta = β (V − e^G (K S))
    std::fill_n(delta.data, n * dv, 0.0f);
    add_product({head.k.data, head.k.stride, 1}, n, dk, head.state, delta);
    for (std::size_t i = 0; i < n; ++i) {
        const auto d = delta.row(i);
        const auto v = head.v.row(i);
        for (std::size_t c = 0; c < dv; ++c) d[c] = head.beta[i] * (v[c] - decay[i] * d[c]);
    }
    // Forward substitution: row i of the solution is what remains after all rows before it.
    for (std::size_t i = 1; i < n; ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            const float a = head.beta[i] * dot(head.k.row(i), head.k.row(j)) * std::exp(sum[i] - sum[j]);
            add_scaled(delta.row(i), -a, delta.row(j));
        }
    }

    // O = e^G (Q S) + (Q Kᵀ ⊙ D) delta
    for (std::size_t i = 0; i < n; ++i) std::ranges::fill(head.out.row(i), 0.0f);
    add_product({head.q.data, head.q.stride, 1}, n, dk, head.state, head.out);
    for (std::size_t i = 0; i < n; ++i) {
        for (float& o : head.out.row(i)) o *= decay[i];
        const auto w = weights.row(i);
        for (std::size_t j = 0; j < n; ++j) {
            // The exponent of later tokens would be positive: it is never formed.
            w[j] = j > i ? 0.0f : dot(head.q.row(i), head.k.row(j)) * std::exp(sum[i] - sum[j]);
        }
    }
    add_product({weights.data, most, 1}, n, n, delta, head.out);

    // S ← e^(G_n) S + (e^(G_n − G_j) K)ᵀ delta
    for (std::size_t j = 0; j < n; ++j) {
        const float factor = std::exp(sum[n - 1] - sum[j]);
        const auto k = head.k.row(j);
        const auto to = decayed_k.row(j);
        for (std::size_t i = 0; i < dk; ++i) to[i] = factor * k[i];
    }
    for (std::size_t i = 0; i < dk; ++i) {
        for (float& s : head.state.row(i)) s *= decay[n - 1];
    }
    add_product({decayed_k.data, 1, dk}, dk, n, delta, head.state);
}

/// Prefill of fewer tokens goes token by token.
constexpr std::size_t least_for_chunks = 8;

}  // namespace

std::size_t delta_rule_scratch(std::size_t dk, std::size_t dv) noexcept {
    return delta_rule_chunk * (dv + delta_rule_chunk + dk);
}

void delta_rule_recurrent(const delta_rule_head& head) noexcept {
    for (std::size_t t = 0; t < head.k.rows; ++t) {
        const auto q = head.q.row(t), k = head.k.row(t), v = head.v.row(t);
        const float decay = std::exp(head.g[t]);
        // The output row first serves as m, what the decayed memory answers to k, then as d = β (v − m).
        const auto o = head.out.row(t);
        std::ranges::fill(o, 0.0f);
        for (std::size_t i = 0; i < k.size(); ++i) {
            const auto s = head.state.row(i);
            for (std::size_t c = 0; c < s.size(); ++c) {
                s[c] *= decay;
                o[c] += k[i] * s[c];
            }
        }
        for (std::size_t c = 0; c < o.size(); ++c) o[c] = head.beta[t] * (v[c] - o[c]);
        for (std::size_t i = 0; i < k.size(); ++i) add_scaled(head.state.row(i), k[i], o);
        std::ranges::fill(o, 0.0f);
        for (std::size_t i = 0; i < k.size(); ++i) add_scaled(o, q[i], head.state.row(i));
    }
}

void delta_rule_chunked(const delta_rule_head& head, std::span<float> scratch) noexcept {
    for (std::size_t begin = 0; begin < head.k.rows; begin += delta_rule_chunk) {
        const std::size_t end = std::min(head.k.rows, begin + delta_rule_chunk);
        delta_rule_chunk_of(tokens_between(head, begin, end), scratch);
    }
}

void causal_convolution(matrix_view<const float> u, std::span<const float> tail, std::span<const float> conv,
                        matrix_view<float> c, std::size_t begin, std::size_t end) noexcept {
    const std::size_t channels = u.cols, kept = tail.size() / channels;
    for (std::size_t t = 0; t < u.rows; ++t) {
        const auto out = c.row(t).subspan(begin, end - begin);
        std::ranges::fill(out, 0.0f);
        for (std::size_t j = 0; j <= kept; ++j) {
            const float* row = t + j < kept ? tail.data() + (t + j) * channels : u.row(t + j - kept).data();
            const float* tap = conv.data() + j * channels;
            for (std::size_t i = begin; i < end; ++i) out[i - begin] += tap[i] * row[i];
        }
        for (float& value : out) value = silu(value);
    }
}

void advance_tail(matrix_view<const float> u, std::span<float> tail) noexcept {
    const std::size_t channels = u.cols, kept = tail.size() / channels;
    const std::size_t old = u.rows < kept ? kept - u.rows : 0;  // rows of the tail that stay
    std::copy(tail.end() - static_cast<std::ptrdiff_t>(old * channels), tail.end(), tail.begin());
    for (std::size_t j = old; j < kept; ++j) std::ranges::copy(u.row(u.rows - kept + j), tail.data() + j * channels);
}

void forward(const gated_delta_net& w, const model_config& config, std::size_t layer, linear_input& n,
             std::span<const sequence_rows> sequences, matrix_view<float> out, gated_delta_net_scratch& scratch,
             const compute& how) {
    const gated_delta_net_config& dims = config.gdn;
    const std::size_t tokens = n.rows().rows, heads = dims.value_heads, dk = dims.key_dim, dv = dims.value_dim;
    const std::size_t values_a_key = heads / dims.key_heads;

    const auto u = scratch.u.shape(tokens, dims.channels());
    const auto z = scratch.z.shape(tokens, dims.values());
    const auto b = scratch.b.shape(tokens, heads);
    const auto a = scratch.a.shape(tokens, heads);
    linear(w.in_qkv, n, u, how);
    linear(w.in_z, n, z, how);
    linear(w.in_b, n, b, how);
    linear(w.in_a, n, a, how);

    const auto c = scratch.c.shape(tokens, dims.channels());
    for (const sequence_rows& rows : sequences) {
        std::vector<float>& tail = rows.state->gdn(layer).tail.write();
        const auto u_rows = u.rows_between(rows.begin, rows.end), c_rows = c.rows_between(rows.begin, rows.end);
        const std::size_t grain = 64 + 4096 / u_rows.rows;
        how.threads.parallel_for(u.cols, grain, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
            causal_convolution(u_rows, tail, w.conv, c_rows, begin, end);
        });
        advance_tail(u_rows, tail);
    }

    // q [tokens, key heads, dk], k the same, v [tokens, value heads, dv] lie one behind the other in a row of c.
    const float q_scale = 1.0f / std::sqrt(static_cast<float>(dk));
    how.threads.parallel_for(tokens * dims.key_heads, 64, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t i = begin; i < end; ++i) {
            const auto row = c.row(i / dims.key_heads);
            const std::size_t head = i % dims.key_heads * dk;
            l2_norm(row.subspan(head, dk), q_scale);
            l2_norm(row.subspan(dims.keys() + head, dk), 1.0f);
        }
    });

    const auto g = scratch.g.shape(heads, tokens), beta = scratch.beta.shape(heads, tokens);
    for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t h = 0; h < heads; ++h) {
            beta.row(h)[t] = sigmoid(b.row(t)[h]);
            g.row(h)[t] = -std::exp(w.a_log[h]) * softplus(a.row(t)[h] + w.dt_bias[h]);
        }
    }

    const auto o = scratch.o.shape(tokens, dims.values());
    const auto chunks = scratch.chunk.shape(how.threads.concurrency(), delta_rule_scratch(dk, dv));
    for (const sequence_rows& rows : sequences) {
        std::vector<float>& memory = rows.state->gdn(layer).memory.write();
        const std::size_t count = rows.end - rows.begin;
        const auto columns = [&](matrix_view<float> m, std::size_t first, std::size_t width) {
            return matrix_view<float>(m.row(rows.begin).data() + first, count, width, m.cols);
        };
        how.threads.parallel_for(heads, 1, [&](std::size_t begin, std::size_t end, unsigned worker) noexcept {
            for (std::size_t h = begin; h < end; ++h) {
                const std::size_t key_head = h / values_a_key;
                delta_rule_head head;
                head.q = columns(c, key_head * dk, dk);
                head.k = columns(c, dims.keys() + key_head * dk, dk);
                head.v = columns(c, 2 * dims.keys() + h * dv, dv);
                head.g = g.row(h).subspan(rows.begin, count);
                head.beta = beta.row(h).subspan(rows.begin, count);
                head.state = {memory.data() + h * dk * dv, dk, dv};
                head.out = columns(o, h * dv, dv);
                if (count < least_for_chunks) {
                    delta_rule_recurrent(head);
                } else {
                    delta_rule_chunked(head, chunks.row(worker));
                }
                for (std::size_t t = rows.begin; t < rows.end; ++t) {
                    gated_norm(o.row(t).subspan(h * dv, dv), z.row(t).subspan(h * dv, dv), w.norm, config.norm_epsilon);
                }
            }
        });
    }
    scratch.o_input.assign(o);
    linear(w.out, scratch.o_input, out, how);
}

}  // namespace qwen
