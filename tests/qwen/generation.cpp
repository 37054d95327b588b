// Answers: greedy text against a plain loop, every way to end, reuse of earlier prompts, several at once.
#include "golden.hpp"
#include "small_text.hpp"

#include "qwen_moe_chat/generation.hpp"
#include "qwen_moe_chat/generation_config.hpp"

#include "hlwq/error.hpp"
#include "hlwq/executor.hpp"

#include <atomic>
#include <optional>
#include <thread>

namespace {

using qwen::finish_reason;
using qwen::token_id;
using ids = std::vector<token_id>;

const qwen::model& tiny() {
    static const qwen::model model(golden::data_folder() / "moe_tiny");
    return model;
}

const qwen::compute& alone() {
    static hlwq::serial_executor serial;
    static const qwen::compute how{serial};
    return how;
}

const ids& unused() {
    static const ids list = qwen::unused_tokens(tiny().config(), small::tokenizer());
    return list;
}

qwen::sampler sampler(double temperature = 0.0, std::uint64_t seed = 1) {
    return qwen::sampler({.temperature = temperature}, tiny().config().vocabulary, unused(), seed);
}

qwen::generator generator(std::size_t snapshots = 6, ids ends = {}) {
    return qwen::generator(tiny(), small::tokenizer(), std::move(ends), alone(), snapshots);
}

ids some_prompt(std::size_t length, std::uint32_t seed = 1) {
    ids list(length);
    for (std::size_t i = 0; i < length; ++i) list[i] = static_cast<token_id>((i * 37 + i * i * seed) % 256);
    return list;
}

ids joined(ids a, const ids& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

struct record {
    qwen::generation_result result;
    std::string text;
    std::vector<std::vector<float>> logits;
};

record run(qwen::generator& with, const qwen::prompt& from, const qwen::generation_options& options,
           const std::atomic<bool>* cancelled = nullptr, double temperature = 0.0) {
    record r;
    qwen::sampler choose = sampler(temperature);
    r.result = with.generate(
        from, choose, options,
        [&](const qwen::generated_token& token) {
            r.text += token.text;
            if (!token.logits.empty()) r.logits.emplace_back(token.logits.begin(), token.logits.end());
        },
        cancelled);
    return r;
}

record run_fresh(const ids& prompt, const qwen::generation_options& options, double temperature = 0.0) {
    qwen::generator with = generator(0);
    return run(with, {prompt}, options, nullptr, temperature);
}

double difference(const record& a, const record& b) {
    double most = 0.0;
    if (a.logits.size() != b.logits.size()) return 1e30;
    for (std::size_t i = 0; i < a.logits.size(); ++i) {
        const qwen::matrix_view<const float> x(a.logits[i].data(), 1, 512), y(b.logits[i].data(), 1, 512);
        most = std::max(most, golden::distance(x, y));
    }
    return most;
}

}  // namespace

TEST_CASE("greedy tokens are those of a plain loop over the model") {
    const ids prompt = some_prompt(70);
    qwen::workspace space(tiny().config());
    qwen::sequence_state state(tiny().config(), qwen::kv_type::f32);
    std::vector<float> logits(512);
    ids expected;
    for (ids next = prompt; expected.size() < 20; next = {expected.back()}) {
        const qwen::sequence_input input{next, &state};
        const auto h = tiny().forward({&input, 1}, space, alone());
        tiny().logits(h.rows_between(h.rows - 1, h.rows), {logits.data(), 1, 512}, space, alone());
        for (const token_id id : unused()) logits[id] = -1e30f;
        expected.push_back(static_cast<token_id>(std::ranges::max_element(logits) - logits.begin()));
    }
    const record found = run_fresh(prompt, {.max_tokens = 20});
    CHECK(found.result.tokens == expected);
    CHECK(found.result.reason == finish_reason::length);
    CHECK(found.result.prompt_tokens == 70);
    CHECK(found.result.reused_tokens == 0);
    CHECK(found.result.decoded_tokens == 19);
    CHECK(found.text == small::tokenizer().decode(expected, true));
    CHECK(found.logits.size() == 20);
}

TEST_CASE("chunks of the prompt do not change the answer") {
    const ids prompt = some_prompt(150);
    const record whole = run_fresh(prompt, {.max_tokens = 12});
    for (const std::size_t chunk : {1u, 7u, 64u, 149u}) {
        CAPTURE(chunk);
        const record cut = run_fresh(prompt, {.max_tokens = 12, .chunk = chunk});
        CHECK(cut.result.tokens == whole.result.tokens);
        CHECK(difference(cut, whole) < 2e-4);
    }
}

TEST_CASE("rows without a token are never drawn, even when everything is likely") {
    CHECK(unused().size() == 244 + 5 + 2);  // 256 to 504 but for sound, which counts too; 507 and 508
    const record r = run_fresh(some_prompt(10), {.max_tokens = 200}, 100.0);
    CHECK(r.result.tokens.size() == 200);
    std::size_t added = 0;
    for (const token_id id : r.result.tokens) {
        CHECK(std::ranges::find(unused(), id) == unused().end());
        added += id >= 505 ? 1 : 0;
    }
    CHECK(added < 200);
}

TEST_CASE("an end token ends the answer and is no part of it") {
    const ids prompt = some_prompt(30);
    const ids free = run_fresh(prompt, {.max_tokens = 10}).result.tokens;
    const std::size_t at = 4;
    const auto first = static_cast<std::size_t>(std::ranges::find(free, free[at]) - free.begin());
    qwen::generator with = generator(6, {7777, free[at]});
    const record r = run(with, {prompt}, {});
    CHECK(r.result.reason == finish_reason::stop);
    CHECK(r.result.tokens == ids(free.begin(), free.begin() + static_cast<std::ptrdiff_t>(first)));
    CHECK(with.tokens() == prompt.size() + first);
    CHECK(r.logits.size() == first + 1);
}

TEST_CASE("a stop string over several tokens ends the answer; what is not one comes out at the end") {
    const ids prompt = some_prompt(40);
    const record free = run_fresh(prompt, {.max_tokens = 24});
    const std::string& text = free.text;
    REQUIRE(text.size() > 12);
    for (std::size_t at = 3; at + 6 < text.size(); at += 3) {
        // Whole characters only.
        if ((text[at] & 0xc0) == 0x80 || (text[at + 6] & 0xc0) == 0x80) continue;
        const std::string stop = text.substr(at, 6);
        const record r = run_fresh(prompt, {.max_tokens = 24, .stop = {"not in there", stop}});
        CHECK(r.result.reason == finish_reason::stop);
        CHECK(r.text == text.substr(0, text.find(stop)));
    }
    const record r = run_fresh(prompt, {.max_tokens = 24, .stop = {text.substr(text.size() - 4) + "x"}});
    CHECK(r.result.reason == finish_reason::length);
    CHECK(r.text == text);
}

TEST_CASE("the context limits prompt and answer together") {
    const ids prompt = some_prompt(20);
    const record r = run_fresh(prompt, {.max_tokens = 100, .context = 26});
    CHECK(r.result.reason == finish_reason::length);
    CHECK(r.result.tokens.size() == 6);
    CHECK(run_fresh(prompt, {.context = 21}).result.tokens.size() == 1);

    const auto refused = [](const ids& list, std::size_t context, const char* part) {
        try {
            run_fresh(list, {.context = context});
            FAIL("accepted: expected an error with " << part);
        } catch (const hlwq::value_error& error) {
            CHECK_MESSAGE(std::string(error.what()).find(part) != std::string::npos, error.what());
        }
    };
    refused(prompt, 20, "prompt: expected fewer tokens than the context, 20, found 20");
    refused(some_prompt(5000), 1000000, "the context, 4096, found 5000");
    refused({}, 100, "prompt: expected at least one token, found none");
}

TEST_CASE("a cancelled answer keeps what was written") {
    const ids prompt = some_prompt(30);
    const ids free = run_fresh(prompt, {.max_tokens = 10}).result.tokens;
    qwen::generator with = generator();
    qwen::sampler choose = sampler();
    std::atomic<bool> cancelled = false;
    std::size_t seen = 0;
    const auto r = with.generate(
        {prompt}, choose, {.max_tokens = 10},
        [&](const qwen::generated_token& token) {
            if (!token.logits.empty() && ++seen == 4) cancelled = true;
        },
        &cancelled);
    CHECK(r.reason == finish_reason::cancelled);
    CHECK(r.tokens == ids(free.begin(), free.begin() + 4));

    // The flag is still set: not even the prompt is read.
    const auto none = with.generate({some_prompt(50, 2)}, choose, {}, {}, &cancelled);
    CHECK(none.reason == finish_reason::cancelled);
    CHECK(none.tokens.empty());
    CHECK(with.tokens() == 0);

    cancelled = false;
    const record again = run(with, {prompt}, {.max_tokens = 10}, &cancelled);
    CHECK(again.result.tokens == free);
}

TEST_CASE("a prompt that was cancelled is read on from where it was left") {
    const ids prompt = some_prompt(200);
    qwen::generator with = generator();
    std::atomic<bool> cancelled = false;
    with.on_progress = [&](std::size_t read, std::size_t of) {
        CHECK(of == 200);
        if (read == 100) cancelled = true;
    };
    CHECK(run(with, {prompt}, {.chunk = 50}, &cancelled).result.reason == finish_reason::cancelled);
    cancelled = false;
    with.on_progress = nullptr;
    const record r = run(with, {prompt}, {.max_tokens = 8}, &cancelled), fresh = run_fresh(prompt, {.max_tokens = 8});
    CHECK(r.result.reused_tokens == 100);
    CHECK(r.result.tokens == fresh.result.tokens);
    CHECK(difference(r, fresh) < 2e-4);
}

TEST_CASE("a prompt that goes on from an answer reuses it, with the same result") {
    qwen::generator with = generator();
    ids prompt = some_prompt(40);
    for (int turn = 0; turn < 4; ++turn) {
        const record r = run(with, {prompt}, {.max_tokens = 9}), fresh = run_fresh(prompt, {.max_tokens = 9});
        // The last token of an answer that was cut was never read.
        CHECK(r.result.reused_tokens == (turn == 0 ? 0 : prompt.size() - 13 - 1));
        CHECK(r.result.tokens == fresh.result.tokens);
        CHECK(r.text == fresh.text);
        CHECK(difference(r, fresh) < 2e-4);
        prompt = joined(joined(prompt, r.result.tokens), some_prompt(13, 3 + static_cast<std::uint32_t>(turn)));
    }
}

TEST_CASE("a prompt that parts from an earlier one at a snapshot starts from there") {
    const ids system = some_prompt(25), question = joined(system, some_prompt(30, 2)),
              prompt = joined(question, {9, 9});
    qwen::generator with = generator();
    const std::vector<std::size_t> snapshots = {system.size(), question.size()};
    CHECK(run(with, {prompt, snapshots}, {.max_tokens = 5}).result.reused_tokens == 0);
    CHECK(with.snapshots().size() == 3);

    const auto compare = [&](const ids& next, std::size_t reused) {
        const record r = run(with, {next}, {.max_tokens = 6}), fresh = run_fresh(next, {.max_tokens = 6});
        CHECK(r.result.reused_tokens == reused);
        CHECK(r.result.tokens == fresh.result.tokens);
        CHECK(difference(r, fresh) < 2e-4);
    };
    compare(prompt, question.size());                                // the same once more
    compare(joined(question, some_prompt(20, 5)), question.size());  // another answer than the one given
    compare(joined(system, some_prompt(20, 7)), system.size());      // another question
    compare(joined({1}, some_prompt(20, 8)), 0);                     // nothing in common
    compare(question, system.size());                                // a snapshot of all of it is of no use
}

TEST_CASE("the snapshots that were used last stay") {
    qwen::generator with = generator(2);
    const ids a = some_prompt(20, 1), b = some_prompt(20, 5), c = some_prompt(20, 9);
    const auto reused = [&](const ids& prompt) {
        return run(with, {joined(prompt, {1, 2})}, {.max_tokens = 1}).result.reused_tokens;
    };
    const auto begin = [&](const ids& prompt) { run(with, {prompt}, {.max_tokens = 1}); };
    begin(a);
    begin(b);
    CHECK(with.snapshots().size() == 2);
    begin(c);
    CHECK(with.snapshots().size() == 2);
    CHECK(reused(b) == 20);
    CHECK(reused(a) == 0);

    qwen::generator none = generator(0);
    run(none, {a}, {.max_tokens = 1});
    CHECK(none.snapshots().size() == 0);
    CHECK(run(none, {joined(a, {1})}, {.max_tokens = 1}).result.reused_tokens == 0);
}

TEST_CASE("generators on several threads share a model") {
    const ids prompts[] = {some_prompt(33, 1), some_prompt(44, 2), some_prompt(55, 3)};
    std::optional<record> found[3];
    {
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < 3; ++i) {
            threads.emplace_back([&, i] { found[i] = run_fresh(prompts[i], {.max_tokens = 10}, 1.0); });
        }
        for (std::thread& thread : threads) thread.join();
    }
    for (std::size_t i = 0; i < 3; ++i) {
        CHECK(found[i]->result.tokens == run_fresh(prompts[i], {.max_tokens = 10}, 1.0).result.tokens);
    }
}

TEST_CASE("answers of several sequences grow from one call of the model") {
    const ids prompts[] = {some_prompt(33, 1), some_prompt(5, 2)};
    const qwen::generation_options options{.max_tokens = 8, .context = 4096};
    qwen::workspace space(tiny().config());
    qwen::sequence_state states[] = {qwen::sequence_state(tiny().config(), qwen::kv_type::f32),
                                     qwen::sequence_state(tiny().config(), qwen::kv_type::f32)};
    qwen::sampler samplers[] = {sampler(), sampler()};
    qwen::answer answers[] = {qwen::answer(small::tokenizer(), {}, samplers[0], prompts[0], options),
                              qwen::answer(small::tokenizer(), {}, samplers[1], prompts[1], options)};
    ids next[] = {prompts[0], prompts[1]};
    std::string text[2];
    std::vector<float> logits(2 * 512);
    while (!answers[0].finished()) {
        const qwen::sequence_input batch[] = {{next[0], &states[0]}, {next[1], &states[1]}};
        const auto h = tiny().forward(batch, space, alone());
        std::vector<float> last;
        const std::size_t rows[] = {next[0].size() - 1, h.rows - 1};
        for (const std::size_t row : rows) last.insert(last.end(), h.row(row).begin(), h.row(row).end());
        tiny().logits({last.data(), 2, h.cols}, {logits.data(), 2, 512}, space, alone());
        for (std::size_t i = 0; i < 2; ++i) {
            const auto token = answers[i].next(std::span(logits).subspan(i * 512, 512));
            text[i] += token.text;
            next[i] = {token.id};
        }
    }
    for (std::size_t i = 0; i < 2; ++i) {
        const record expected = run_fresh(prompts[i], options);
        CHECK(ids(answers[i].tokens().begin(), answers[i].tokens().end()) == expected.result.tokens);
        CHECK(text[i] + answers[i].rest() == expected.text);
        CHECK(answers[i].reason() == finish_reason::length);
    }
}
