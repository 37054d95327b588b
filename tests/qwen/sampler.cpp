// The sampler against its definition, written out in double over all tokens; its distribution; its seed.
#include "qwen_moe_chat/sampler.hpp"

#include "hlwq/error.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using qwen::sampling_options;
using qwen::token_id;

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Logits like those of a model: most of them far below a few.
std::vector<float> some_logits(std::size_t count, std::uint32_t seed, double spread = 3.0) {
    std::mt19937 random(seed);
    std::vector<float> logits(count);
    for (float& l : logits) {
        double sum = 0.0;  // nearly Gaussian
        for (int i = 0; i < 12; ++i) sum += static_cast<double>(random()) * 0x1p-32;
        l = static_cast<float>((sum - 6.0) * spread);
    }
    return logits;
}

/// The probability of every token, as sampler.hpp defines it.
std::vector<double> probabilities(const sampling_options& o, const std::vector<float>& logits,
                                  const std::vector<token_id>& never, const std::vector<token_id>& prompt,
                                  const std::vector<token_id>& written) {
    const std::size_t n = logits.size();
    std::vector<double> l(logits.begin(), logits.end());
    for (const auto& [id, bias] : o.logit_bias) l[id] += bias;
    for (std::size_t id = 0; id < n; ++id) {
        const auto count = std::count(written.begin(), written.end(), id);
        if (count != 0 || std::count(prompt.begin(), prompt.end(), id) != 0) {
            l[id] = l[id] > 0 ? l[id] / o.repetition_penalty : l[id] * o.repetition_penalty;
        }
        l[id] -= o.frequency_penalty * static_cast<double>(count) + (count != 0 ? o.presence_penalty : 0.0);
    }
    for (const token_id id : never) l[id] = -infinity;
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return l[a] > l[b]; });
    std::vector<double> p(n, 0.0);
    if (o.temperature == 0.0) {
        p[order[0]] = 1.0;
        return p;
    }
    const auto normalise = [&] {
        const double sum = std::accumulate(p.begin(), p.end(), 0.0);
        for (double& x : p) x /= sum;
    };
    for (std::size_t i = 0; i < (o.top_k == 0 ? n : std::min(o.top_k, n)); ++i) {
        p[order[i]] = std::exp((l[order[i]] - l[order[0]]) / o.temperature);
    }
    normalise();
    if (o.top_p < 1.0) {
        double before = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
            const double mine = p[order[i]];
            if (i != 0 && before >= o.top_p) p[order[i]] = 0.0;
            before += mine;
        }
        normalise();
    }
    for (double& x : p) {
        if (x < o.min_p * p[order[0]]) x = 0.0;
    }
    normalise();
    return p;
}

/// Draws often; the tokens must be those of positive probability, as often as their probability says.
void check_distribution(const sampling_options& options, const std::vector<float>& logits,
                        const std::vector<token_id>& never = {}, const std::vector<token_id>& prompt = {},
                        const std::vector<token_id>& written = {}) {
    const auto expected = probabilities(options, logits, never, prompt, written);
    qwen::sampler choose(options, logits.size(), never, 20261121);
    choose.begin(prompt);
    for (const token_id id : written) choose.accept(id);
    constexpr int draws = 20000;
    std::vector<int> found(logits.size());
    for (int i = 0; i < draws; ++i) ++found[choose.sample(logits)];

    double chi_squared = 0.0, rest_expected = 0.0;
    int cells = 0, rest_found = 0;
    for (std::size_t id = 0; id < logits.size(); ++id) {
        const double e = expected[id] * draws;
        if (expected[id] == 0.0) CHECK_MESSAGE(found[id] == 0, "token " << id << " of probability 0 was drawn");
        if (e < 8.0) {
            rest_expected += e;
            rest_found += found[id];
            continue;
        }
        chi_squared += (found[id] - e) * (found[id] - e) / e;
        ++cells;
    }
    if (rest_expected >= 8.0) {
        chi_squared += (rest_found - rest_expected) * (rest_found - rest_expected) / rest_expected;
        ++cells;
    }
    // Five standard deviations of chi squared: the seed is fixed, so this holds always or never.
    const double freedom = cells - 1;
    CHECK(chi_squared <= freedom + 5.0 * std::sqrt(2.0 * freedom) + 1e-9);
}

token_id greedy(const sampling_options& options, const std::vector<float>& logits,
                const std::vector<token_id>& written = {}) {
    qwen::sampler choose(options, logits.size(), {}, 1);
    for (const token_id id : written) choose.accept(id);
    return choose.sample(logits);
}

std::vector<token_id> drawn(qwen::sampler& choose, const std::vector<float>& logits, int count) {
    std::vector<token_id> ids;
    for (int i = 0; i < count; ++i) ids.push_back(choose.sample(logits));
    return ids;
}

}  // namespace

TEST_CASE("every combination of cuts gives the distribution of its definition") {
    const auto few = some_logits(40, 1), many = some_logits(3000, 2);
    for (const double temperature : {0.3, 1.0, 2.0}) {
        for (const std::size_t top_k : {0u, 1u, 7u, 300u, 5000u}) {
            for (const double top_p : {1.0, 0.9, 0.3, 0.0}) {
                for (const double min_p : {0.0, 0.05, 1.0}) {
                    CAPTURE(temperature);
                    CAPTURE(top_k);
                    CAPTURE(top_p);
                    CAPTURE(min_p);
                    const sampling_options options{
                        .temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p};
                    check_distribution(options, few);
                    if (temperature == 1.0 && min_p < 1.0) check_distribution(options, many);
                }
            }
        }
    }
}

TEST_CASE("penalties, bias and ids that are never sampled") {
    const auto logits = some_logits(60, 3);
    const std::vector<token_id> prompt = {1, 2, 3, 3, 40}, written = {3, 7, 7, 7, 20, 59};
    check_distribution({.presence_penalty = 1.5}, logits, {}, prompt, written);
    check_distribution({.frequency_penalty = 0.7}, logits, {}, prompt, written);
    check_distribution({.repetition_penalty = 1.3}, logits, {}, prompt, written);
    check_distribution({.repetition_penalty = 0.8}, logits, {}, prompt, written);
    check_distribution({.logit_bias = {{5, 4.0}, {6, -infinity}, {7, -100.0}}}, logits, {}, prompt, written);
    check_distribution({.temperature = 0.7,
                        .top_k = 20,
                        .top_p = 0.9,
                        .min_p = 0.01,
                        .presence_penalty = 1.0,
                        .frequency_penalty = -0.5,
                        .repetition_penalty = 1.1,
                        .logit_bias = {{11, 2.0}, {50, 8.0}}},
                       logits, {50, 58, 59}, prompt, written);
}

TEST_CASE("an id that is never sampled has no chance, whatever its logit and bias") {
    auto logits = some_logits(100, 4);
    logits[17] = 1000.0f;
    logits[99] = infinity;
    const std::vector<token_id> never = {17, 99};
    for (const double temperature : {0.0, 1.0}) {
        qwen::sampler choose({.temperature = temperature, .logit_bias = {{17, 1e6}}}, 100, never, 5);
        for (int i = 0; i < 1000; ++i) {
            const token_id id = choose.sample(logits);
            CHECK((id != 17 && id != 99));
        }
    }
}

TEST_CASE("greedy takes the largest, of equals the lowest id, behind bias and penalties") {
    std::vector<float> logits = {1, 5, 2, 5, 4};
    CHECK(greedy({.temperature = 0.0}, logits) == 1);
    CHECK(greedy({.temperature = 0.0, .logit_bias = {{3, 0.5}}}, logits) == 3);
    CHECK(greedy({.temperature = 0.0, .presence_penalty = 0.5}, logits, {1}) == 3);
    CHECK(greedy({.temperature = 0.0, .presence_penalty = 0.9}, logits, {1, 3, 3}) == 1);
    CHECK(greedy({.temperature = 0.0, .frequency_penalty = 0.6}, logits, {1, 3, 3}) == 1);
    CHECK(greedy({.temperature = 0.0, .frequency_penalty = 0.6}, logits, {1, 1, 3, 3}) == 4);
    CHECK(greedy({.temperature = 0.0, .repetition_penalty = 2.0}, {-1, -3}, {0}) == 0);
    CHECK(greedy({.temperature = 0.0, .repetition_penalty = 4.0}, {-1, -3}, {0}) == 1);
    logits[1] = std::numeric_limits<float>::quiet_NaN();
    logits[0] = std::numeric_limits<float>::quiet_NaN();
    CHECK(greedy({.temperature = 0.0}, logits) == 3);
}

TEST_CASE("a tiny temperature and top_k 1 are greedy") {
    const auto logits = some_logits(2000, 6);
    const token_id best = greedy({.temperature = 0.0}, logits);
    qwen::sampler cold({.temperature = 1e-300}, 2000, {}, 7), one({.temperature = 1.0, .top_k = 1}, 2000, {}, 7);
    for (int i = 0; i < 50; ++i) {
        CHECK(cold.sample(logits) == best);
        CHECK(one.sample(logits) == best);
    }
}

TEST_CASE("among equal logits at the edge of top_k the lower ids stay") {
    const std::vector<float> logits(1000, 0.25f);
    qwen::sampler choose({.top_k = 3}, 1000, {}, 8);
    std::map<token_id, int> found;
    for (int i = 0; i < 300; ++i) ++found[choose.sample(logits)];
    CHECK(found.size() == 3);
    CHECK(found.rbegin()->first == 2);
}

TEST_CASE("the same seed gives the same tokens, another one others") {
    const auto logits = some_logits(500, 9);
    for (const std::size_t top_k : {0u, 40u}) {
        qwen::sampler a({.top_k = top_k}, 500, {}, 42), b({.top_k = top_k}, 500, {}, 42),
            c({.top_k = top_k}, 500, {}, 43);
        const auto first = drawn(a, logits, 50);
        CHECK(first == drawn(b, logits, 50));
        CHECK(first != drawn(c, logits, 50));
        CHECK(first != drawn(a, logits, 50));
        a.seed(42);
        CHECK(first == drawn(a, logits, 50));
    }
}

TEST_CASE("the random numbers are the ones that the standard fixes") {
    // The 10000th of a std::mt19937_64 with its default seed is 9981545732273789042; here the tokens are its upper
    // bits.
    const std::vector<float> logits(16, 1.0f);
    qwen::sampler choose({}, 16, {}, std::mt19937_64::default_seed);
    token_id last = 0;
    for (int i = 0; i < 10000; ++i) last = choose.sample(logits);
    CHECK(last == 9981545732273789042u >> 60);
}

TEST_CASE("cutting to a prefix does not change what a seed draws from it") {
    // All cuts keep the beginning of one order, and every token takes one random number.
    std::vector<float> logits(4000, -60.0f);
    for (std::size_t i = 0; i < 8; ++i) logits[i * 397] = 1.0f - static_cast<float>(i) * 0.5f;
    qwen::sampler all({}, 4000, {}, 10), cut({.top_k = 8}, 4000, {}, 10), thin({.min_p = 1e-9}, 4000, {}, 10);
    const auto expected = drawn(all, logits, 200);
    CHECK(drawn(cut, logits, 200) == expected);
    CHECK(drawn(thin, logits, 200) == expected);
}

TEST_CASE("a new answer forgets the penalties of the one before") {
    const std::vector<float> logits = {3, 2, 1};
    qwen::sampler choose({.temperature = 0.0, .presence_penalty = 10.0, .repetition_penalty = 1.7}, 3, {}, 1);
    choose.begin(std::vector<token_id>{});
    for (const token_id expected : {0u, 1u, 2u}) {
        CHECK(choose.sample(logits) == expected);
        choose.accept(expected);
    }
    choose.begin(std::vector<token_id>{0, 0});
    CHECK(choose.sample(logits) == 1);  // 3 / 1.7 < 2
    choose.begin(std::vector<token_id>{1});
    CHECK(choose.sample(logits) == 0);
}

TEST_CASE("what is out of range is refused") {
    const auto refused = [](const sampling_options& options, const char* part) {
        try {
            qwen::sampler choose(options, 10, {}, 1);
            FAIL("accepted: expected an error with " << part);
        } catch (const hlwq::value_error& error) {
            CHECK_MESSAGE(std::string(error.what()).find(part) != std::string::npos, error.what());
        }
    };
    refused({.temperature = -1.0}, "temperature");
    refused({.temperature = std::nan("")}, "temperature");
    refused({.top_p = 1.5}, "top_p");
    refused({.min_p = -0.1}, "min_p");
    refused({.presence_penalty = std::nan("")}, "presence_penalty");
    refused({.frequency_penalty = infinity}, "frequency_penalty");
    refused({.repetition_penalty = 0.0}, "repetition_penalty");
    refused({.logit_bias = {{10, 1.0}}}, "logit_bias: token id: expected below 10, found 10");
    refused({.logit_bias = {{1, infinity}}}, "logit_bias");

    qwen::sampler choose({}, 3, {}, 1);
    CHECK_THROWS_AS(choose.sample(std::vector<float>{1, 2}), hlwq::shape_error);
    CHECK_THROWS_AS(choose.sample(std::vector<float>{1, infinity, 2}), hlwq::value_error);
    CHECK_THROWS_AS(choose.sample(std::vector<float>(3, -infinity)), hlwq::value_error);
    CHECK_THROWS_AS(choose.sample(std::vector<float>(3, std::nanf(""))), hlwq::value_error);
    CHECK_THROWS_AS(choose.accept(3), hlwq::value_error);
    CHECK_THROWS_AS(choose.begin(std::vector<token_id>{3}), hlwq::value_error);
    choose.set({.temperature = 0.0});
    CHECK_THROWS_AS(choose.sample(std::vector<float>(3, std::nanf(""))), hlwq::value_error);
    CHECK(choose.sample(std::vector<float>{std::nanf(""), 1, 2}) == 2);
}
