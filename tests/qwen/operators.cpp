// Single operators against a computation in double precision; f32 rounding alone stays below 1e-5 of the largest
// magnitude.
#include "golden.hpp"

#include "qwen_moe_chat/kernels.hpp"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <utility>

namespace {

using golden::distance;
using golden::rows;

constexpr double tolerance = 1e-5;

const golden::results& operators() {
    static const golden::results file(golden::data_folder() / "operators" / "ops.safetensors");
    return file;
}

/// Queries or keys [tokens, heads, dk], normalised.
rows normalised(const std::string& name, float scale) {
    rows x = operators().floats(name);
    for (std::size_t i = 0; i < x.count(); ++i) {
        qwen::l2_norm(std::span(x.values).subspan(i * x.cols, x.cols), scale);
    }
    return x;
}

/// Element `head` of every token of [tokens, heads].
std::vector<float> column(const rows& x, std::size_t head) {
    std::vector<float> values;
    for (std::size_t t = 0; t < x.count(); ++t) values.push_back(x.view().row(t)[head]);
    return values;
}

}  // namespace

TEST_CASE("delta rule, token by token and in chunks") {
    for (const std::string name : {"t1", "t5", "t63", "t64", "t65", "t130", "real128", "nonsquare"}) {
        const std::string prefix = "gdn." + name + ".";
        const auto key_shape = operators().shape(prefix + "k_raw"), value_shape = operators().shape(prefix + "v");
        const std::size_t tokens = value_shape[0], heads = value_shape[1], dv = value_shape[2];
        const std::size_t key_heads = key_shape[1], dk = key_shape[2];
        const rows q = normalised(prefix + "q_raw", 1.0f / std::sqrt(static_cast<float>(dk)));
        const rows k = normalised(prefix + "k_raw", 1.0f), v = operators().floats(prefix + "v");
        const rows a = operators().floats(prefix + "a"), b = operators().floats(prefix + "b");
        const rows a_log = operators().floats(prefix + "A_log"), dt_bias = operators().floats(prefix + "dt_bias");
        const rows out = operators().floats(prefix + "out"), after = operators().floats(prefix + "S1");
        qwen::line_vector<float> scratch(qwen::kernels().delta_rule_scratch(dk, dv));
        for (const bool chunked : {false, true}) {
            CAPTURE(name);
            CAPTURE(chunked);
            rows state = operators().floats(prefix + "S0"), found = out;
            std::ranges::fill(found.values, -1.0f);
            for (std::size_t h = 0; h < heads; ++h) {
                std::vector<float> g, beta;
                for (const float x : column(a, h)) {
                    g.push_back(-std::exp(a_log.values[h]) * qwen::softplus(x + dt_bias.values[h]));
                }
                for (const float x : column(b, h)) beta.push_back(qwen::sigmoid(x));
                const std::size_t key_head = h / (heads / key_heads);
                qwen::delta_rule_head head;
                head.q = {q.values.data() + key_head * dk, tokens, dk, key_heads * dk};
                head.k = {k.values.data() + key_head * dk, tokens, dk, key_heads * dk};
                head.v = {v.values.data() + h * dv, tokens, dv, heads * dv};
                head.g = g.data();
                head.beta = beta.data();
                head.state = {state.values.data() + h * dk * dv, dk, dv};
                head.out = {found.values.data() + h * dv, tokens, dv, heads * dv};
                if (chunked) {
                    qwen::kernels().delta_rule_chunked(head, scratch.data());
                } else {
                    qwen::kernels().delta_rule_recurrent(head);
                }
            }
            CHECK(distance(found.view(), out.view()) < tolerance);
            CHECK(distance(state.view(), after.view()) < tolerance);
        }
    }
}

TEST_CASE("causal convolution with its tail, in any pieces") {
    const rows x = operators().floats("conv.x"), w = operators().floats("conv.w"), y = operators().floats("conv.y");
    const rows expected_tail = operators().floats("conv.state");
    const qwen::kernel_table& run = qwen::kernels();
    const std::size_t channels = x.cols, kernel = w.cols;
    std::vector<float> conv(w.values.size());
    for (std::size_t c = 0; c < channels; ++c) {
        for (std::size_t j = 0; j < kernel; ++j) conv[j * channels + c] = w.values[c * kernel + j];
    }
    for (std::size_t piece = 1; piece <= x.count(); ++piece) {
        CAPTURE(piece);
        std::vector<float> tail((kernel - 1) * channels);
        rows found = y;
        for (std::size_t begin = 0; begin < x.count(); begin += piece) {
            const std::size_t end = std::min(x.count(), begin + piece);
            const auto u = x.view().rows_between(begin, end);
            const qwen::matrix_view<float> c(found.values.data() + begin * channels, end - begin, channels);
            // Channels are independent: workers take shares of them.
            for (const auto& [first, last] : {std::pair<std::size_t, std::size_t>{0, 5}, {5, channels}}) {
                const std::size_t width = last - first;
                run.causal_convolution(u.data + first, tail.data() + first, conv.data() + first, kernel, channels,
                                       width, u.rows, c.data + first, channels);
                run.advance_tail(u.data + first, tail.data() + first, kernel, channels, width, u.rows);
            }
        }
        CHECK(distance(found.view(), y.view()) < tolerance);
        CHECK(tail == expected_tail.values);
    }
}

TEST_CASE("norms") {
    const rows x = operators().floats("norm.x"), z = operators().floats("norm.z");
    const rows w = operators().floats("norm.w"), gated_w = operators().floats("norm.gated_weight");
    rows centred = x, gated = x;
    hlwq::serial_executor serial;
    qwen::zero_centred_norm(x.view(), w.values, 1e-6f, {centred.values.data(), x.count(), x.cols}, {serial});
    CHECK(distance(centred.view(), operators().floats("norm.zero_centred").view()) < tolerance);
    for (std::size_t r = 0; r < x.count(); ++r) {
        qwen::gated_norm(std::span(gated.values).subspan(r * x.cols, x.cols), z.view().row(r), gated_w.values, 1e-6f);
    }
    CHECK(distance(gated.view(), operators().floats("norm.gated").view()) < tolerance);
}

TEST_CASE("rotary embedding: pairs, frequencies, axes, positions up to 262143") {
    const auto axes = operators().integers("rope.pos3");
    rows x = operators().floats("rope.x");  // [tokens, 2 heads, 256]
    const std::size_t tokens = axes.size() / 3;
    std::vector<qwen::rope_position> positions(tokens);
    for (std::size_t t = 0; t < tokens; ++t) positions[t] = {axes[t], axes[tokens + t], axes[2 * tokens + t]};
    qwen::rotary_embedding rope({1e7, 64, {11, 11, 10}});
    rope.set(positions);
    for (std::size_t i = 0; i < x.count(); ++i) rope.rotate(std::span(x.values).subspan(i * x.cols, x.cols), i / 2);
    CHECK(distance(x.view(), operators().floats("rope.y").view()) < tolerance);
}

TEST_CASE("router") {
    const rows logits = operators().floats("router.logits"), weights = operators().floats("router.weights");
    const auto expected = operators().integers("router.idx");
    for (std::size_t t = 0; t < logits.count(); ++t) {
        std::vector<qwen::expert_choice> choices(weights.cols);
        qwen::choose_experts(logits.view().row(t), choices);
        // Which of several equal logits wins is open in torch: the logits are the same all the same.
        for (std::size_t i = 0; i < choices.size(); ++i) {
            const auto row = logits.view().row(t);
            CHECK(choices[i].weight == doctest::Approx(weights.view().row(t)[i]).epsilon(1e-5));
            CHECK(row[choices[i].expert] == row[expected[t * weights.cols + i]]);
        }
    }
}

TEST_CASE("equal router logits: the lower index wins") {
    const std::vector<float> logits = {1.0f, 2.0f, 2.0f, 0.0f, 2.0f};
    std::vector<qwen::expert_choice> choices(2);
    qwen::choose_experts(logits, choices);
    CHECK(choices[0].expert == 1);
    CHECK(choices[1].expert == 2);
    CHECK(choices[0].weight == doctest::Approx(0.5f));
}

TEST_CASE("router: 8 of 256 are those that sorting all of them gives") {
    std::mt19937 random(5);
    for (int round = 0; round < 200; ++round) {
        std::vector<float> logits(256);
        // Few values, so that many are equal; ascending ones, of which each is above all before; descending ones.
        for (std::size_t e = 0; e < logits.size(); ++e) {
            logits[e] = round == 0   ? static_cast<float>(e)
                        : round == 1 ? -static_cast<float>(e)
                                     : static_cast<float>(random() % (round % 2 == 0 ? 20 : 100000)) * 1e-3f;
        }
        std::vector<std::uint32_t> order(logits.size());
        std::iota(order.begin(), order.end(), 0u);
        std::ranges::stable_sort(order, [&](std::uint32_t a, std::uint32_t b) { return logits[a] > logits[b]; });
        std::vector<qwen::expert_choice> choices(8);
        qwen::choose_experts(logits, choices);
        float sum = 0.0f;
        for (std::size_t i = 0; i < choices.size(); ++i) {
            CHECK(choices[i].expert == order[i]);
            sum += choices[i].weight;
        }
        CHECK(sum == doctest::Approx(1.0f));
    }
}

TEST_CASE("softplus where the exponential would overflow") {
    CHECK(qwen::softplus(1000.0f) == 1000.0f);
    CHECK(qwen::softplus(-1000.0f) == 0.0f);
    CHECK(qwen::softplus(0.0f) == doctest::Approx(std::log(2.0f)));
}
