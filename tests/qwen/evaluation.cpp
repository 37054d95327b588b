// Perplexity and divergence against the plain formulas, on reference logits, tables and models; saved logits.
#include "golden.hpp"

#include "qwen_moe_chat/evaluation.hpp"
#include "qwen_moe_chat/saved_logits.hpp"

#include "hlwq/error.hpp"
#include "hlwq/thread_pool.hpp"

#include <cstdio>
#include <numeric>

#include <unistd.h>

namespace {

using golden::runner;
using hlwq::matrix_view;
using qwen::scored_tokens;
using qwen::token_id;
using qwen::window_protocol;

/// -ln softmax(row)[target], the formula as it stands.
double plain_nll(std::span<const float> row, token_id target) {
    long double sum = 0.0L;
    for (const float value : row) sum += std::exp(static_cast<long double>(value));
    return static_cast<double>(std::log(sum) - static_cast<long double>(row[target]));
}

struct plain_result {
    double mean = 0.0, error = 0.0;
    std::size_t count = 0;
};
plain_result plain_mean(const std::vector<double>& samples) {
    const auto n = static_cast<double>(samples.size());
    double sum = 0.0, squares = 0.0;
    for (const double x : samples) {
        sum += x;
        squares += x * x;
    }
    const double mean = sum / n;
    return {mean, std::sqrt((squares / n - mean * mean) / (n - 1.0)), samples.size()};
}

/// A table of logits as a source: row t of the text is row t of the table.
class table_source : public qwen::logits_source {
  public:
    explicit table_source(matrix_view<const float> rows) : rows_(rows) {}
    std::size_t vocabulary() const noexcept override { return rows_.cols; }
    void start() override { at_ = 0; }
    void feed(std::span<const token_id> ids) override {
        begin_ = at_;
        at_ += ids.size();
    }
    matrix_view<const float> logits(std::size_t begin, std::size_t end) override {
        return rows_.rows_between(begin_ + begin, begin_ + end);
    }

  private:
    matrix_view<const float> rows_;
    std::size_t begin_ = 0, at_ = 0;
};

std::vector<token_id> some_ids(std::size_t count, token_id vocabulary) {
    std::vector<token_id> ids(count);
    for (std::size_t i = 0; i < count; ++i) ids[i] = static_cast<token_id>((i * 7919 + i / 3) % vocabulary);
    return ids;
}

const qwen::model& tiny(const char* name) {
    static const qwen::model moe(golden::data_folder() / "moe_tiny"), dense(golden::data_folder() / "dense_tiny");
    return std::string_view(name) == "moe_tiny" ? moe : dense;
}

struct scratch_file {
    golden::fs::path path = golden::fs::temp_directory_path() / ("qwen-logits-" + std::to_string(::getpid()));
    ~scratch_file() { std::remove(path.c_str()); }
};

constexpr window_protocol half_of_24{scored_tokens::second_half, 24, 0};

}  // namespace

TEST_CASE("windows cover what the protocol says") {
    const auto windows = [](std::size_t tokens, window_protocol protocol) {
        std::vector<std::vector<std::size_t>> list;
        for (const auto& w : qwen::windows_of(tokens, protocol)) list.push_back({w.begin, w.first, w.end});
        return list;
    };
    using list = std::vector<std::vector<std::size_t>>;
    // llama.cpp: of 512 tokens logits 256..510 are scored, which predict tokens 257..511; the rest of the text is left.
    CHECK(windows(1300, {}) == list{{0, 257, 512}, {512, 769, 1024}});
    CHECK(windows(9, {scored_tokens::second_half, 9, 0}) == list{{0, 5, 9}});
    CHECK(windows(9, {scored_tokens::all, 4, 0}) == list{{0, 1, 4}, {4, 5, 8}});  // the ninth has nothing before it
    CHECK(windows(10, {scored_tokens::all, 4, 0}) == list{{0, 1, 4}, {4, 5, 8}, {8, 9, 10}});
    CHECK(windows(10, {scored_tokens::sliding, 4, 3}) == list{{0, 1, 4}, {3, 4, 7}, {6, 7, 10}});
    CHECK(windows(11, {scored_tokens::sliding, 4, 3}) == list{{0, 1, 4}, {3, 4, 7}, {6, 7, 10}, {9, 10, 11}});
    CHECK(windows(3, {scored_tokens::sliding, 8, 4}) == list{{0, 1, 3}});
    const auto two = qwen::windows_of(10, {scored_tokens::sliding, 4, 3});
    CHECK(qwen::scored_count(two) == 9);
    CHECK(qwen::fed_count(two) == 9);

    for (std::size_t tokens = 2; tokens < 40; ++tokens) {
        for (std::size_t window = 2; window < 20; ++window) {
            for (std::size_t stride = 1; stride < window; ++stride) {
                std::size_t next = 1;
                for (const auto& w : qwen::windows_of(tokens, {scored_tokens::sliding, window, stride})) {
                    CHECK(w.first == next);
                    CHECK((w.begin < w.first && w.first < w.end && w.end - w.begin <= window));
                    next = w.end;
                }
                CHECK(next == tokens);
            }
        }
    }
    CHECK_THROWS_WITH_AS(qwen::windows_of(511, {}), "tokens of the text: expected at least a window of 512, found 511",
                         hlwq::value_error);
    CHECK_THROWS_AS(qwen::windows_of(1, {scored_tokens::all, 8, 0}), hlwq::value_error);
    CHECK_THROWS_AS(qwen::windows_of(100, {scored_tokens::sliding, 8, 8}), hlwq::value_error);
    CHECK_THROWS_AS(qwen::windows_of(100, {scored_tokens::sliding, 8, 0}), hlwq::value_error);
    CHECK_THROWS_AS(qwen::windows_of(100, {scored_tokens::second_half, 3, 0}), hlwq::value_error);
}

TEST_CASE("protocols that differ read differently") {
    CHECK(qwen::describe({}) == "chunked: windows of 512 tokens, the last 255 of each scored");
    CHECK(qwen::describe({scored_tokens::all, 512, 0}) != qwen::describe({}));
    CHECK(qwen::describe({scored_tokens::sliding, 64, 32}) ==
          "sliding: windows of 64 tokens, stride 32, every token but the first scored once");
}

TEST_CASE("perplexity is that of the reference logits") {
    for (const char* name : {"moe_tiny", "dense_tiny"}) {
        const golden::results results(golden::data_folder() / name / "golden_ref64.safetensors");
        const auto ids = results.integers("p70d6.ids");
        golden::rows logits = results.floats("p70d6.prefill_logits");
        const golden::rows decoded = results.floats("p70d6.decode_logits");
        logits.values.insert(logits.values.end(), decoded.values.begin(), decoded.values.end());
        for (const bool half : {true, false}) {
            std::vector<double> nll;
            for (std::size_t t = half ? ids.size() / 2 + 1 : 1; t < ids.size(); ++t) {
                nll.push_back(plain_nll(logits.view().row(t - 1), ids[t]));
            }
            const plain_result expected = plain_mean(nll);
            hlwq::serial_executor serial;
            qwen::model_logits source(tiny(name), {serial});
            const auto found = qwen::perplexity(
                source, ids, {half ? scored_tokens::second_half : scored_tokens::all, ids.size(), 0}, serial);
            CHECK(found.tokens == expected.count);
            CHECK(found.nll.mean == doctest::Approx(expected.mean).epsilon(1e-4));
            CHECK(found.nll.error == doctest::Approx(expected.error).epsilon(1e-3));
            CHECK(found.ppl == doctest::Approx(std::exp(expected.mean)).epsilon(1e-3));
            CHECK(found.ppl_error == doctest::Approx(found.ppl * found.nll.error));
        }
    }
}

TEST_CASE("every window begins anew, in pieces of any size, on any number of threads") {
    const auto ids = some_ids(1300, 512);
    for (const window_protocol protocol : {window_protocol{scored_tokens::sliding, 700, 600},
                                           window_protocol{scored_tokens::all, 650, 0}, window_protocol{}}) {
        runner r(tiny("moe_tiny"));
        std::vector<double> nll;
        const auto windows = qwen::windows_of(ids.size(), protocol);
        for (const auto& w : windows) {
            const auto rows = r.logits_of(std::span(ids).subspan(w.begin, w.end - w.begin), {256});
            for (std::size_t t = w.first; t < w.end; ++t) {
                nll.push_back(plain_nll(rows.view().row(t - 1 - w.begin), ids[t]));
            }
        }
        std::vector<double> found;
        for (const unsigned threads : {1u, 3u}) {
            hlwq::thread_pool pool(threads);
            qwen::model_logits source(tiny("moe_tiny"), {pool});
            std::size_t fed = 0, scored = 0;
            qwen::evaluation_watch watch;
            watch.advance = [&](std::size_t tokens) { fed += tokens; };
            watch.logits = [&](matrix_view<const float> rows) { scored += rows.rows; };
            const auto result = qwen::perplexity(source, ids, protocol, pool, watch);
            CHECK(fed == qwen::fed_count(windows));
            CHECK(scored == nll.size());
            CHECK(result.tokens == nll.size());
            CHECK(result.nll.mean == doctest::Approx(plain_mean(nll).mean).epsilon(1e-5));
            found.push_back(result.nll.mean);
        }
        CHECK(found[0] == found[1]);
    }
}

TEST_CASE("logits of any size are safe, those that are not numbers are errors") {
    constexpr std::size_t vocabulary = 1000;
    std::vector<float> table(9 * vocabulary);
    const auto ids = some_ids(9, vocabulary);
    hlwq::serial_executor serial;
    const auto run = [&] {
        table_source source({table.data(), 9, vocabulary});
        return qwen::perplexity(source, ids, {scored_tokens::all, 9, 0}, serial);
    };
    for (const float same : {0.0f, 1e4f, -1e4f, 3e38f, -3e38f}) {
        std::ranges::fill(table, same);
        CHECK(run().ppl == doctest::Approx(vocabulary).epsilon(1e-12));
    }
    // All the weight on one token: its surprise is 0, that of every other one the distance.
    std::ranges::fill(table, -80.0f);
    for (std::size_t t = 0; t < 9; ++t) table[t * vocabulary + 5] = 20.0f;
    CHECK(run().nll.mean == doctest::Approx(100.0).epsilon(1e-12));
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        table[3 * vocabulary + 17] = bad;
        CHECK_THROWS_AS(run(), hlwq::value_error);
        try {
            run();
        } catch (const hlwq::value_error& error) {
            CHECK(std::string(error.what()).find("logits that predict token 4 of the text: expected finite") == 0);
        }
    }
}

TEST_CASE("divergence is the formula's, token by token") {
    const auto ids = some_ids(200, 512);
    const window_protocol protocol{scored_tokens::all, 50, 0};
    hlwq::serial_executor serial;
    std::vector<double> kld, difference, same;
    runner base(tiny("moe_tiny")), tested(tiny("dense_tiny"));
    for (const auto& w : qwen::windows_of(ids.size(), protocol)) {
        const auto part = std::span(ids).subspan(w.begin, w.end - w.begin);
        const auto p = base.logits_of(part, {50}), q = tested.logits_of(part, {50});
        for (std::size_t t = w.first; t < w.end; ++t) {
            const std::size_t r = t - 1 - w.begin;
            kld.push_back(golden::divergence(p.view().rows_between(r, r + 1), q.view().rows_between(r, r + 1)));
            difference.push_back(plain_nll(q.view().row(r), ids[t]) - plain_nll(p.view().row(r), ids[t]));
            same.push_back(golden::best(p.view().row(r)) == golden::best(q.view().row(r)) ? 1.0 : 0.0);
        }
    }
    qwen::model_logits a(tiny("moe_tiny"), {serial}), b(tiny("dense_tiny"), {serial});
    const auto found = qwen::divergence(a, b, ids, protocol, serial);
    CHECK(found.kld.mean == doctest::Approx(plain_mean(kld).mean).epsilon(1e-4));
    CHECK(found.kld.error == doctest::Approx(plain_mean(kld).error).epsilon(1e-3));
    CHECK(found.log_ppl_ratio.mean == doctest::Approx(plain_mean(difference).mean).epsilon(1e-4));
    CHECK(found.log_ppl_ratio.error == doctest::Approx(plain_mean(difference).error).epsilon(1e-3));
    CHECK(found.log_ppl_ratio.mean ==
          doctest::Approx(std::log(found.tested.ppl) - std::log(found.base.ppl)).epsilon(1e-9));
    CHECK(found.same_top1.mean == doctest::Approx(plain_mean(same).mean).epsilon(1e-12));
    CHECK(found.same_top1.error == doctest::Approx(plain_mean(same).error).epsilon(1e-9));
    std::ranges::sort(kld);
    CHECK(kld.size() == 196);
    CHECK(found.median == doctest::Approx(0.5 * (kld[97] + kld[98])).epsilon(1e-4));
    CHECK(found.p99 == doctest::Approx(kld[193] + 0.05 * (kld[194] - kld[193])).epsilon(1e-4));
    CHECK(found.max == doctest::Approx(kld.back()).epsilon(1e-4));

    qwen::model_logits c(tiny("moe_tiny"), {serial});
    const auto nothing = qwen::divergence(a, c, ids, protocol, serial);
    CHECK(nothing.max < 1e-12);
    CHECK(nothing.same_top1.mean == 1.0);
    CHECK(nothing.tested.ppl == nothing.base.ppl);
}

TEST_CASE("vocabularies of different size have no divergence") {
    const std::vector<float> small(40), large(60);
    table_source a({small.data(), 4, 10}), b({large.data(), 4, 15});
    hlwq::serial_executor serial;
    const std::vector<token_id> ids = {1, 2, 3, 4};
    CHECK_THROWS_WITH_AS(qwen::divergence(a, b, ids, {scored_tokens::all, 4, 0}, serial),
                         "vocabulary of the base: expected 15, found 10", hlwq::shape_error);
}

TEST_CASE("means, shares and quantiles") {
    const std::vector<double> samples = {1.0, 2.0, 4.0, 9.0};
    CHECK(qwen::estimate_mean(samples).mean == 4.0);
    CHECK(qwen::estimate_mean(samples).error == doctest::Approx(std::sqrt(38.0 / 3.0 / 4.0)));
    CHECK(std::isnan(qwen::estimate_mean(std::span(samples).first(1)).error));
    CHECK(qwen::share_error(0.25, 101) == doctest::Approx(std::sqrt(0.1875 / 100.0)));
    CHECK(std::isnan(qwen::share_error(1.0, 1)));
    CHECK(qwen::quantile(samples, 0.0) == 1.0);
    CHECK(qwen::quantile(samples, 1.0) == 9.0);
    CHECK(qwen::quantile(samples, 0.5) == 3.0);
    CHECK(qwen::quantile(samples, 0.9) == doctest::Approx(7.5));
    // 67 rows of 250 thousand entries are 64 MiB; at least one row is.
    CHECK(qwen::rows_at_once(248320) == 67);
    CHECK(qwen::rows_at_once(512) == 512);
    CHECK(qwen::rows_at_once(std::size_t{1} << 40) == 1);
}

TEST_CASE("a divergence from saved logits is that from the model, bit by bit") {
    const auto ids = some_ids(130, 512);
    hlwq::serial_executor serial;
    const scratch_file file;
    qwen::model_logits base(tiny("moe_tiny"), {serial}), tested(tiny("dense_tiny"), {serial});
    {
        qwen::logits_writer out(file.path, ids, half_of_24, 512);
        qwen::evaluation_watch watch;
        watch.logits = [&](matrix_view<const float> rows) { out.append(rows); };
        qwen::perplexity(base, ids, half_of_24, serial, watch);
        out.finish();
    }
    qwen::saved_logits saved(file.path, ids, half_of_24);
    CHECK(saved.vocabulary() == 512);
    const auto a = qwen::divergence(base, tested, ids, half_of_24, serial);
    const auto b = qwen::divergence(saved, tested, ids, half_of_24, serial);
    CHECK(a.kld.mean == b.kld.mean);
    CHECK(a.kld.error == b.kld.error);
    CHECK(a.p99 == b.p99);
    CHECK(a.base.ppl == b.base.ppl);
    CHECK(a.tested.ppl == b.tested.ppl);

    auto other = ids;
    other[77] = 3;
    const std::string name = file.path.filename().string();
    CHECK_THROWS_WITH_AS(qwen::saved_logits(file.path, other, half_of_24),
                         (name + ": token 77 of the text: expected 3, found " + std::to_string(ids[77])).c_str(),
                         hlwq::format_error);
    CHECK_THROWS_WITH_AS(qwen::saved_logits(file.path, std::span(ids).first(129), half_of_24),
                         (name + ": tokens of the text: expected 129, found 130").c_str(), hlwq::format_error);
    CHECK_THROWS_WITH_AS(qwen::saved_logits(file.path, ids, {scored_tokens::all, 24, 0}),
                         (name + ": protocol: expected chunked: windows of 24 tokens, all but the first token of each "
                                 "scored, found chunked: windows of 24 tokens, the last 11 of each scored")
                             .c_str(),
                         hlwq::format_error);
    CHECK_THROWS_AS(qwen::saved_logits(golden::data_folder() / "moe_tiny" / "model.safetensors", ids, half_of_24),
                    hlwq::format_error);
}
