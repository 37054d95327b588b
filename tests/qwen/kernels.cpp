// The kernels one by one against double precision: exponentials over their whole range, rows of any length, attention
// over any number of tokens in pages of every type, a head of a gated delta net against its parts.
#include "qwen_moe_chat/compute.hpp"
#include "qwen_moe_chat/kernels.hpp"
#include "qwen_moe_chat/kernels/vector_math.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

namespace {

using scalar = hlwq::simd::scalar_backend;
using native = hlwq::simd::native;
using floats = qwen::line_vector<float>;

constexpr float infinity = std::numeric_limits<float>::infinity();

template <class S, class F>
float one(F f, float x) {
    float out[S::lanes];
    S::store(out, f(S::set(x)));
    return out[0];
}

struct noise {
    std::mt19937 source{1};
    floats operator()(std::size_t count, float scale = 1.0f) {
        std::uniform_real_distribution<float> number(-scale, scale);
        floats values(count);
        for (float& value : values) value = number(source);
        return values;
    }
};

double largest_difference(std::span<const float> found, std::span<const double> expected) {
    double most = 0.0;
    for (std::size_t i = 0; i < found.size(); ++i) most = std::max(most, std::fabs(double{found[i]} - expected[i]));
    return most;
}

/// Calls f(x) for floats of every size between the two, in both backends.
template <class F>
void over_range(float first, float last, F f) {
    for (int i = 0; i <= 200000; ++i) f(first + (last - first) * static_cast<float>(i) / 200000.0f);
    for (float x = 1e-30f; x < last; x *= 1.7f) f(x);
    for (float x = -1e-30f; x > first; x *= 1.7f) f(x);
}

}  // namespace

TEST_CASE_TEMPLATE("exponential", S, scalar, native) {
    const auto e = [](float x) { return one<S>([](auto v) { return qwen::kernel::exp<S>(v); }, x); };
    double worst = 0.0;
    over_range(-87.0f, 88.3f, [&](float x) {
        const double exact = std::exp(double{x});
        worst = std::max(worst, std::fabs(double{e(x)} - exact) / exact);
    });
    CHECK(worst < 1.5e-7);
    CHECK(e(0.0f) == 1.0f);
    CHECK(e(-88.1f) == 0.0f);
    CHECK(e(-1e30f) == 0.0f);
    CHECK(e(-infinity) == 0.0f);
    CHECK(e(88.8f) == infinity);
    CHECK(e(infinity) == infinity);
    CHECK(std::isnan(e(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE_TEMPLATE("sigmoid, silu, softplus", S, scalar, native) {
    double worst[3] = {};
    over_range(-80.0f, 80.0f, [&](float x) {
        const double t = std::exp(-std::fabs(double{x})), sigmoid = (x < 0.0f ? t : 1.0) / (1.0 + t);
        const double exact[3] = {sigmoid, x * sigmoid, std::max(double{x}, 0.0) + std::log1p(t)};
        const float found[3] = {one<S>([](auto v) { return qwen::kernel::sigmoid<S>(v); }, x),
                                one<S>([](auto v) { return qwen::kernel::silu<S>(v); }, x),
                                one<S>([](auto v) { return qwen::kernel::softplus<S>(v); }, x)};
        for (int i = 0; i < 3; ++i) {
            const double scale = std::max(std::fabs(exact[i]), 1e-30);
            worst[i] = std::max(worst[i], std::fabs(double{found[i]} - exact[i]) / scale);
        }
    });
    for (const double error : worst) CHECK(error < 5e-7);
    CHECK(one<S>([](auto v) { return qwen::kernel::sigmoid<S>(v); }, -infinity) == 0.0f);
    CHECK(one<S>([](auto v) { return qwen::kernel::sigmoid<S>(v); }, infinity) == 1.0f);
    CHECK(one<S>([](auto v) { return qwen::kernel::softplus<S>(v); }, 1000.0f) == 1000.0f);
    CHECK(one<S>([](auto v) { return qwen::kernel::softplus<S>(v); }, -1000.0f) == 0.0f);
}

TEST_CASE("rows of every length, and nothing behind them") {
    const qwen::kernel_table& run = qwen::kernels();
    noise random;
    for (std::size_t n = 1; n <= 150; n += n < 70 ? 1 : 37) {
        CAPTURE(n);
        const floats x = random(n), w = random(n), z = random(n, 4.0f);
        std::vector<double> centred(n), gated(n), unit(n), product(n), sum(n), power(n);
        double square = 0.0, dot = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
            square += double{x[i]} * x[i];
            dot += double{x[i]} * w[i];
        }
        for (std::size_t i = 0; i < n; ++i) {
            const double rms = std::sqrt(square / static_cast<double>(n) + 1e-6),
                         silu = z[i] / (1.0 + std::exp(-double{z[i]}));
            centred[i] = x[i] / rms * (1.0 + w[i]);
            gated[i] = x[i] / rms * w[i] * silu;
            unit[i] = 0.25 * x[i] / std::sqrt(square + 1e-6);
            product[i] = silu * x[i];
            sum[i] = x[i] + 0.5 * w[i];
            power[i] = std::exp(double{x[i]});
        }
        const auto check = [&](const std::vector<double>& expected, auto work) {
            floats out = x;
            out.push_back(77.0f);
            work(out.data());
            CHECK(out.back() == 77.0f);
            CHECK(largest_difference(std::span(out).first(n), expected) < 1e-5);
        };
        check(centred, [&](float* out) { run.zero_centred_norm(x.data(), w.data(), 1e-6f, out, n); });
        check(gated, [&](float* out) { run.gated_norm(x.data(), z.data(), w.data(), 1e-6f, out, n); });
        check(unit, [&](float* out) { run.l2_norm(out, 0.25f, n); });
        check(sum, [&](float* out) { run.add_scaled(out, 0.5f, w.data(), n); });
        check(power, [&](float* out) { run.exponentials(out, n); });
        floats gate = z;
        run.silu_product(gate.data(), x.data(), n);
        CHECK(largest_difference(gate, product) < 1e-5);
        CHECK(run.dot(x.data(), w.data(), n) == doctest::Approx(dot).epsilon(1e-5));
    }
}

TEST_CASE("searching logits: the first above a threshold from any place on; no NaN is") {
    noise random;
    floats x = random(700);
    for (std::size_t i = 5; i < x.size(); i += 31) x[i] = std::numeric_limits<float>::quiet_NaN();
    x[333] = -infinity;
    x[601] = infinity;
    for (const float threshold : {-infinity, -0.9f, 0.0f, 0.97f, 0.999f, 2.0f, infinity}) {
        for (std::size_t from = 0; from <= x.size(); ++from) {
            std::size_t expected = from;
            while (expected < x.size() && !(x[expected] > threshold)) ++expected;
            REQUIRE(qwen::kernels().next_above(x.data(), from, x.size(), threshold) == expected);
        }
    }
}

namespace {

/// A kv head in pages.
struct pages {
    std::vector<qwen::line_vector<std::byte>> memory;
    pages(const floats& keys, const floats& values, std::size_t tokens, std::size_t head_dim, qwen::kv_type type,
          std::size_t piece) {
        const std::size_t bytes = type == qwen::kv_type::f32 ? 4 : 2;
        for (std::size_t t = 0; t < tokens;) {
            const std::size_t at = t % qwen::kv_page_tokens,
                              count = std::min({piece, tokens - t, qwen::kv_page_tokens - at});
            if (at == 0) memory.emplace_back(bytes * qwen::kv_head_elements(head_dim));
            qwen::kernels().append_kv[static_cast<std::size_t>(type)](
                memory.back().data(), at, keys.data() + t * head_dim, values.data() + t * head_dim, head_dim, count,
                head_dim);
            t += count;
        }
    }
};

}  // namespace

TEST_CASE("attention: tiles of any shape, contexts of any length in one part or several, pages of every type") {
    const qwen::kernel_table& run = qwen::kernels();
    struct {
        std::size_t past, tokens, group, head_dim, piece;
    } const shapes[] = {{0, 1, 1, 16, 1},    {0, 8, 8, 256, 8},   {63, 1, 8, 256, 5},  {64, 1, 8, 128, 64},
                        {190, 8, 8, 64, 33}, {60, 10, 6, 24, 16}, {500, 3, 3, 40, 64}, {129, 1, 2, 256, 7}};
    for (const auto& s : shapes) {
        noise random;
        const std::size_t all = s.past + s.tokens, rows = s.tokens * s.group, hd = s.head_dim;
        const floats q = random(rows * hd, 3.0f), gate = random(rows * hd, 3.0f);
        const floats keys = random(all * hd), values = random(all * hd);
        const float scale = 1.0f / std::sqrt(static_cast<float>(hd));
        std::vector<double> expected(rows * hd);
        for (std::size_t row = 0; row < rows; ++row) {
            const std::size_t sees = s.past + row / s.group + 1;
            double sum = 0.0;
            std::vector<double> weight(sees);
            for (std::size_t t = 0; t < sees; ++t) {
                double score = 0.0;
                for (std::size_t i = 0; i < hd; ++i) score += double{q[row * hd + i]} * keys[t * hd + i];
                sum += weight[t] = std::exp(scale * score);
            }
            for (std::size_t i = 0; i < hd; ++i) {
                double value = 0.0;
                for (std::size_t t = 0; t < sees; ++t) value += weight[t] / sum * values[t * hd + i];
                expected[row * hd + i] = value / (1.0 + std::exp(-double{gate[row * hd + i]}));
            }
        }
        for (const auto& [type, tolerance] : {std::pair{qwen::kv_type::f32, 3e-6}, std::pair{qwen::kv_type::f16, 1e-3},
                                              std::pair{qwen::kv_type::bf16, 8e-3}}) {
            const pages cache(keys, values, all, hd, type, s.piece);
            for (const std::size_t step : {cache.memory.size(), std::size_t{1}, std::size_t{2}}) {
                CAPTURE(s.past);
                CAPTURE(s.head_dim);
                CAPTURE(step);
                const std::size_t stride = qwen::attention_seen_floats(rows, hd);
                const std::size_t parts = (cache.memory.size() + step - 1) / step;
                floats scratch(qwen::attention_scratch_floats(hd)), seen(parts * stride), out(rows * hd, -1.0f);
                qwen::attention_tile tile{s.tokens, s.group, hd, scratch.data(), nullptr};
                for (std::size_t p = 0; p < parts; ++p) {
                    tile.seen = seen.data() + p * stride;
                    run.attention_begin(tile, q.data(), s.group * hd, hd, scale);
                    for (std::size_t page = p * step; page < std::min((p + 1) * step, cache.memory.size()); ++page) {
                        const std::size_t first = page * qwen::kv_page_tokens;
                        run.attention_page[static_cast<std::size_t>(type)](
                            tile, cache.memory[page].data(),
                            page + 1 < cache.memory.size() ? cache.memory[page + 1].data() : nullptr,
                            std::min(qwen::kv_page_tokens, all - first),
                            static_cast<std::ptrdiff_t>(s.past + 1) - static_cast<std::ptrdiff_t>(first));
                    }
                }
                tile.seen = seen.data();
                run.attention_end(tile, parts, stride, gate.data(), s.group * hd, hd, out.data(), s.group * hd);
                CHECK(largest_difference(out, expected) < tolerance);
            }
        }
    }
}

TEST_CASE("a head of a gated delta net: in any pieces the same as its parts one behind the other") {
    const qwen::kernel_table& run = qwen::kernels();
    struct {
        std::size_t dk, dv, value_heads, taps;
    } const shapes[] = {{128, 128, 2, 4}, {16, 24, 3, 4}, {20, 10, 1, 3}};
    constexpr std::size_t tokens = 131;
    for (const auto& s : shapes) {
        noise random;
        const std::size_t values = s.value_heads * s.dv, channels = 2 * s.dk + values;
        const floats u = random(tokens * channels), conv = random(s.taps * channels), z = random(tokens * values);
        const floats a = random(tokens * s.value_heads, 3.0f), b = random(tokens * s.value_heads, 3.0f);
        const floats a_log = random(s.value_heads), dt_bias = random(s.value_heads), norm = random(s.dv);
        floats tail = random((s.taps - 1) * channels);
        floats state = random(s.value_heads * s.dk * s.dv);

        // By parts.
        floats c(tokens * channels), part_state = state, part_out(tokens * values);
        run.causal_convolution(u.data(), tail.data(), conv.data(), s.taps, channels, channels, tokens, c.data(),
                               channels);
        for (std::size_t t = 0; t < tokens; ++t) {
            run.l2_norm(c.data() + t * channels, 1.0f / std::sqrt(static_cast<float>(s.dk)), s.dk);
            run.l2_norm(c.data() + t * channels + s.dk, 1.0f, s.dk);
        }
        for (std::size_t h = 0; h < s.value_heads; ++h) {
            floats g(tokens), beta(tokens);
            for (std::size_t t = 0; t < tokens; ++t) {
                const float x = a[t * s.value_heads + h] + dt_bias[h];
                g[t] = -std::exp(a_log[h]) * std::log1p(std::exp(x));
                beta[t] = 1.0f / (1.0f + std::exp(-b[t * s.value_heads + h]));
            }
            qwen::delta_rule_head head;
            head.q = {c.data(), tokens, s.dk, channels};
            head.k = {c.data() + s.dk, tokens, s.dk, channels};
            head.v = {c.data() + 2 * s.dk + h * s.dv, tokens, s.dv, channels};
            head.g = g.data();
            head.beta = beta.data();
            head.state = {part_state.data() + h * s.dk * s.dv, s.dk, s.dv};
            head.out = {part_out.data() + h * s.dv, tokens, s.dv, values};
            run.delta_rule_recurrent(head);
            for (std::size_t t = 0; t < tokens; ++t) {
                float* o = part_out.data() + t * values + h * s.dv;
                run.gated_norm(o, z.data() + t * values + h * s.dv, norm.data(), 1e-6f, o, s.dv);
            }
        }
        const std::vector<double> expected(part_out.begin(), part_out.end());
        const std::vector<double> expected_state(part_state.begin(), part_state.end());

        floats scratch(run.delta_rule_scratch(s.dk, s.dv));
        for (const std::size_t piece :
             {std::size_t{1}, std::size_t{5}, std::size_t{9}, std::size_t{64}, std::size_t{70}, tokens}) {
            CAPTURE(piece);
            CAPTURE(s.dk);
            floats own_tail = tail, own_state = state, out(tokens * values);
            for (std::size_t first = 0; first < tokens; first += piece) {
                qwen::gated_delta_head head;
                head.tokens = std::min(piece, tokens - first);
                head.key_dim = s.dk;
                head.value_dim = s.dv;
                head.value_heads = head.heads = s.value_heads;
                head.kernel = s.taps;
                head.channels = channels;
                head.u_q = u.data() + first * channels;
                head.u_k = head.u_q + s.dk;
                head.u_v = head.u_k + s.dk;
                head.tail_q = own_tail.data();
                head.tail_k = head.tail_q + s.dk;
                head.tail_v = head.tail_k + s.dk;
                head.conv_q = conv.data();
                head.conv_k = head.conv_q + s.dk;
                head.conv_v = head.conv_k + s.dk;
                head.a = a.data() + first * s.value_heads;
                head.b = b.data() + first * s.value_heads;
                head.a_log = a_log.data();
                head.dt_bias = dt_bias.data();
                head.values = values;
                head.z = z.data() + first * values;
                head.norm = norm.data();
                head.norm_epsilon = 1e-6f;
                head.state = own_state.data();
                head.out = out.data() + first * values;
                run.run_gated_delta_head(head, scratch.data());
            }
            CHECK(largest_difference(out, expected) < 2e-5);
            CHECK(largest_difference(own_state, expected_state) < 2e-5);
            CHECK(std::equal(own_tail.begin(), own_tail.end(), u.end() - static_cast<std::ptrdiff_t>(own_tail.size())));
        }
    }
}
