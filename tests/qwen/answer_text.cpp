// Stop strings and thinking: whatever the pieces, the same text, and none of it held back without need.
#include "qwen_moe_chat/answer_text.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace {

using words = std::vector<std::string>;

/// The text up to the end that its definition gives it: the first place where a stop string is complete.
std::string stopped_text(const std::string& text, const words& stops, bool& stopped) {
    for (std::size_t end = 1; end <= text.size(); ++end) {
        std::size_t longest = 0;
        for (const std::string& stop : stops) {
            if (!stop.empty() && std::string_view(text).substr(0, end).ends_with(stop)) {
                longest = std::max(longest, stop.size());
            }
        }
        if (longest != 0) {
            stopped = true;
            return text.substr(0, end - longest);
        }
    }
    stopped = false;
    return text;
}

/// Every way to cut a short text into pieces, some ways for a long one.
void for_each_cut(const std::string& text, const std::function<void(const words&)>& f) {
    std::mt19937 random(1);
    const std::size_t gaps = text.empty() ? 0 : text.size() - 1;
    const std::uint32_t ways = gaps < 11 ? 1u << gaps : 500;
    for (std::uint32_t way = 0; way < ways; ++way) {
        words pieces = {""};
        for (std::size_t i = 0; i < text.size(); ++i) {
            pieces.back() += text[i];
            const bool cut = gaps < 11 ? (way >> i & 1) != 0 : random() % (way % 5 + 1) == 0;
            if (cut) pieces.push_back("");
        }
        f(pieces);
    }
}

}  // namespace

TEST_CASE("stop strings end the text where the first of them is complete, however it was cut") {
    const std::vector<std::pair<std::string, words>> cases = {
        {"hello world", {"wor"}},
        {"abcabd", {"abd"}},
        {"aaab", {"aab"}},
        {"aabaabaac", {"aabaac"}},
        {"xabcx", {"abc", "b"}},
        {"xabcx", {"abc", "bc"}},
        {"no stop", {"stopp"}},
        {"end: sto", {"stop"}},
        {"abc", {"abc"}},
        {"", {"a"}},
        {"abc", {}},
        {"abc", {""}},
        {"größer als", {"ß"}},
        {"a\n\nb", {"\n\n"}},
        {"User: x", {"User:"}},
        {"mississippi", {"ssip", "issip"}},
        {"a long text in which nothing stops until THE END comes at last", {"THE END", "END OF", "THE ENT"}},
    };
    for (const auto& entry : cases) {
        const std::string& text = entry.first;
        const words& stops = entry.second;
        CAPTURE(text);
        bool stops_here = false;
        const std::string expected = stopped_text(text, stops, stops_here);
        for_each_cut(text, [&](const words& pieces) {
            qwen::stop_strings stop(stops);
            std::string found;
            for (const std::string& piece : pieces) found += stop.push(piece);
            CHECK(stop.stopped() == stops_here);
            found += stop.finish();
            CHECK(found == expected);
        });
    }
}

TEST_CASE("only the possible beginning of a stop string is held back") {
    qwen::stop_strings stop({"STOP", "TOO"});
    CHECK(stop.push("abc") == "abc");
    CHECK(stop.push("ST") == "");
    CHECK(stop.push("x") == "STx");
    CHECK(stop.push("STO") == "");
    CHECK(stop.push("O") == "S");
    CHECK(stop.stopped());
    CHECK(stop.push("more") == "");
    CHECK(stop.finish() == "");

    qwen::stop_strings other({"STOP"});
    CHECK(other.push("text ST") == "text ");
    CHECK(other.finish() == "ST");
    CHECK_FALSE(other.stopped());
}

TEST_CASE("thinking and answer are told apart, however the text was cut") {
    struct item {
        bool inside;
        std::string text, thinking, answer;
    };
    const std::vector<item> cases = {
        {false, "hello", "", "hello"},
        {true, "let me see\n</think>\n\nhello\n", "let me see", "hello\n"},
        {true, "\nlet me\n\nsee</think>hello", "let me\n\nsee", "hello"},
        {true, "\n</think>\n\nhello", "", "hello"},
        {true, "cut off while thin", "cut off while thin", ""},
        {true, "cut off </thi", "cut off </thi", ""},
        {true, "a\n\n", "a", ""},
        {false, "<think>\nmm\n</think>\n\nyes", "mm", "yes"},
        {false, " \n<think>mm</think>yes", "mm", "yes"},
        {false, "<thin", "", "<thin"},
        {false, "<thing> is a word", "", "<thing> is a word"},
        {false, "say <think>, then </think>", "", "say <think>, then </think>"},
        {true, "a</think>b</think>c", "a", "b</think>c"},
        {true, "a < b </ c </think>\nd", "a < b </ c ", "d"},
        {false, "  indented", "", "  indented"},
        {false, "", "", ""},
        {true, "", "", ""},
        {false, " \n", "", " \n"},
    };
    for (const item& c : cases) {
        CAPTURE(c.text);
        for_each_cut(c.text, [&](const words& pieces) {
            qwen::thinking_splitter split(c.inside);
            std::string thinking, answer;
            const auto take = [&](const qwen::thinking_splitter::piece& piece) {
                CHECK((answer.empty() || piece.thinking.empty()));
                thinking += piece.thinking;
                answer += piece.answer;
            };
            for (const std::string& piece : pieces) take(split.push(piece));
            take(split.finish());
            CHECK(thinking == c.thinking);
            CHECK(answer == c.answer);
        });
    }
}

TEST_CASE("an answer is passed on as it comes") {
    qwen::thinking_splitter split(true);
    CHECK(split.push("one ").thinking == "one ");
    CHECK(split.push("two <").thinking == "two ");
    CHECK(split.push("3").thinking == "<3");
    const auto piece = split.push("</think>\n\nyes");
    CHECK(piece.answer == "yes");
    CHECK(split.push(" and <think>").answer == " and <think>");
}
