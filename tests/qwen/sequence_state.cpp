// Snapshots, restoring, forks: every way back to a point gives, bit by bit, what going there directly gives.
#include "golden.hpp"

#include "hlwq/thread_pool.hpp"

#include <thread>

namespace {

using golden::rows;
using golden::runner;

const std::vector<qwen::token_id> prompt = [] {
    std::vector<qwen::token_id> ids(100);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<qwen::token_id>(i * 37 % 500);
    return ids;
}();
const std::vector<qwen::token_id> one_way = {3, 1, 4, 1, 5}, other_way = {2, 7, 1, 8, 2, 8};

const qwen::model& tiny() {
    static const qwen::model model(golden::data_folder() / "moe_tiny");
    return model;
}

std::vector<float> fed(runner& r, std::span<const qwen::token_id> ids, qwen::sequence_state& state) {
    rows logits;
    r.feed(ids, state, logits);
    return logits.values;
}

/// Logits of a continuation of the prompt in a state of its own.
std::vector<float> direct(std::span<const qwen::token_id> ids) {
    runner r(tiny());
    qwen::sequence_state state(tiny().config());
    fed(r, prompt, state);
    return fed(r, ids, state);
}

}  // namespace

TEST_CASE("restoring a snapshot undoes everything since, any number of times") {
    runner r(tiny());
    qwen::sequence_state state(tiny().config());
    fed(r, prompt, state);
    const qwen::sequence_snapshot after_prompt = state.snapshot();
    CHECK(after_prompt.tokens() == prompt.size());
    const auto expected = direct(one_way), other = direct(other_way);
    for (int i = 0; i < 2; ++i) {
        CHECK(fed(r, one_way, state) == expected);
        CHECK(state.tokens() == prompt.size() + one_way.size());
        state.restore(after_prompt);
        CHECK(state.tokens() == prompt.size());
        CHECK(fed(r, other_way, state) == other);
        state.restore(after_prompt);
    }
}

TEST_CASE("a snapshot serves a state that has gone another way, and outlives the one it was taken from") {
    runner r(tiny());
    std::optional<qwen::sequence_snapshot> point;
    {
        qwen::sequence_state state(tiny().config());
        fed(r, prompt, state);
        point = state.snapshot();
        fed(r, one_way, state);
    }
    qwen::sequence_state fresh(tiny().config());
    fed(r, other_way, fresh);
    fresh.restore(*point);
    CHECK(fed(r, one_way, fresh) == direct(one_way));
}

TEST_CASE("forks go their own ways") {
    runner r(tiny());
    qwen::sequence_state first(tiny().config());
    fed(r, prompt, first);
    qwen::sequence_state second = first.fork();
    // In turns, so that each writes while the other still reads what they share.
    std::vector<float> a, b;
    for (std::size_t t = 0; t < one_way.size(); ++t) {
        const auto x = fed(r, std::span(one_way).subspan(t, 1), first);
        const auto y = fed(r, std::span(other_way).subspan(t, 1), second);
        a.insert(a.end(), x.begin(), x.end());
        b.insert(b.end(), y.begin(), y.end());
    }
    CHECK(a == direct(one_way));
    auto expected = direct(other_way);
    expected.resize(b.size());
    CHECK(b == expected);
}

TEST_CASE("forks on threads of their own") {
    runner r(tiny());
    qwen::sequence_state state(tiny().config());
    fed(r, prompt, state);
    qwen::sequence_state forked = state.fork();
    std::vector<float> a, b;
    std::thread beside([&] {
        runner own(tiny());
        a = fed(own, one_way, forked);
    });
    b = fed(r, other_way, state);
    beside.join();
    CHECK(a == direct(one_way));
    CHECK(b == direct(other_way));
}

TEST_CASE("the multi-token prediction layer's keys belong to the state") {
    runner r(tiny());
    qwen::sequence_state state(tiny().config());
    fed(r, prompt, state);
    const auto predicted = [&](qwen::sequence_state& s) {
        const qwen::sequence_input next{std::span(prompt).subspan(1), &s, {}};
        const auto h = tiny().predict({&next, 1}, r.hidden.view().rows_between(0, prompt.size() - 1), r.space, r.how);
        return std::vector<float>(h.data, h.data + h.rows * h.cols);
    };
    const auto before = state.snapshot();
    const auto once = predicted(state);
    state.restore(before);
    CHECK(predicted(state) == once);
}

TEST_CASE("a snapshot of another model is refused") {
    qwen::model_config small = tiny().config();
    small.mixers.pop_back();
    const qwen::sequence_state other(small);
    qwen::sequence_state state(tiny().config());
    CHECK_THROWS_AS(state.restore(other.snapshot()), hlwq::shape_error);
}
