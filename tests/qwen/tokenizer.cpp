#include "qwen_moe_chat/tokenizer.hpp"

#include "qwen_moe_chat/byte_pair.hpp"
#include "qwen_moe_chat/pre_tokenizer.hpp"
#include "qwen_moe_chat/utf8.hpp"
#include "qwen_moe_chat/vocabulary.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

const std::filesystem::path data = std::filesystem::path(HLWQ_TEST_DATA) / "tokenizer";

nlohmann::json read_json(const std::filesystem::path& path) {
    return nlohmann::json::parse(hlwq::io::read_text_file(path));
}

/// The smallest tokenizer: all bytes, one merge.
nlohmann::json minimal() {
    auto json = read_json(data / "tokenizer_qwen35.json");
    nlohmann::json vocab;
    for (const auto& [entry, id] : json["model"]["vocab"].items()) {
        if (id.get<int>() < 256) vocab[entry] = id;
    }
    vocab["ab"] = 256;
    json["model"]["vocab"] = vocab;
    json["model"]["merges"] = nlohmann::json::array({nlohmann::json::array({"a", "b"})});
    json["added_tokens"] = nlohmann::json::array();
    return json;
}

void refuses_text(const std::string& text, const char* part) {
    try {
        const qwen::tokenizer loaded(text, "t.json");
        FAIL("accepted: expected an error with " << part);
    } catch (const hlwq::error& error) {
        CHECK_MESSAGE(std::string(error.what()).find(part) != std::string::npos, error.what());
    }
}

void refuses(const nlohmann::json& json, const char* part) { refuses_text(json.dump(), part); }

}  // namespace

TEST_CASE("ids and texts equal Hugging Face's") {
    for (const std::string name : {"tokenizer_qwen35", "tokenizer_qwen2"}) {
        const qwen::tokenizer tokenizer(data / (name + ".json"));
        const auto golden = read_json(data / (name + "_golden.json"));
        REQUIRE(golden["cases"].size() > 100);
        for (const auto& item : golden["cases"]) {
            const auto text = item["text"].get<std::string>();
            const auto ids = item["ids"].get<std::vector<qwen::token_id>>();
            CAPTURE(text);
            CHECK(tokenizer.encode(text) == ids);
            CHECK(tokenizer.decode(ids) == item["decoded_keep"].get<std::string>());
            CHECK(tokenizer.decode(ids, true) == item["decoded_skip"].get<std::string>());
            qwen::streaming_decoder stream(tokenizer);
            std::string streamed;
            for (const auto id : ids) {
                const std::string part = stream.push(id);
                CHECK(qwen::find_invalid_utf8(part) == part.npos);
                streamed += part;
            }
            CHECK(streamed + stream.finish() == item["decoded_keep"].get<std::string>());
        }
    }
}

TEST_CASE("splits equal the reference's, both patterns") {
    const auto golden = read_json(data / "pretok_golden.json");
    for (const std::string kind : {"qwen35", "qwen2"}) {
        const auto file = read_json(data / ("tokenizer_" + kind + ".json"));
        const auto regex = file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"].get<std::string>();
        const qwen::splitter splitter(regex, "golden");
        for (const auto& item : golden["cases"]) {
            std::string storage;
            const auto text = item["text"].get<std::string>();
            const auto normal = qwen::to_nfc(text, storage);
            CHECK(normal == item["nfc"].get<std::string>());
            std::vector<std::string> splits;
            splitter.split(normal, [&](std::string_view split) { splits.emplace_back(split); });
            CHECK(splits == item[kind].get<std::vector<std::string>>());
        }
    }
}

TEST_CASE("patterns with empty matches split there, and lose nothing; endless ones give up") {
    const auto splits = [](const char* pattern, std::string_view text) {
        std::vector<std::string> list;
        qwen::splitter(pattern, "test").split(text, [&](std::string_view split) { list.emplace_back(split); });
        return list;
    };
    using list = std::vector<std::string>;
    CHECK(splits("x*", "a\u00e9xxb") == list{"a", "\u00e9", "xx", "b"});
    CHECK(splits("(?=c)", "abcd") == list{"ab", "cd"});
    CHECK(splits("b", "abcbb") == list{"a", "b", "c", "b", "b"});
    CHECK(splits("q", "abc") == list{"abc"});
    CHECK_THROWS_AS(splits("(a+)+[bc]", std::string(100, 'a')), hlwq::format_error);
}

TEST_CASE("a megabyte of one character is a text like any other") {
    const qwen::tokenizer tokenizer(data / "tokenizer_qwen35.json");
    for (const std::string unit : {"a", " ", "\n", "<", "1", "ab", "<|", "  x", "\u0915", "\U0001f600"}) {
        std::string text;
        while (text.size() < (unit.size() == 1 ? 1u << 20 : 1u << 18)) text += unit;
        const auto ids = tokenizer.encode(text);
        CHECK(tokenizer.decode(ids) == text);
    }
}

TEST_CASE("marks of a megabyte are sorted by their classes") {
    const qwen::tokenizer tokenizer(data / "tokenizer_qwen35.json");
    constexpr std::size_t count = 200'000;
    std::string text = "x", sorted = "x";
    for (std::size_t i = 0; i < count; ++i) text += "\u0301\u0323";  // above: class 230; below: class 220
    for (std::size_t i = 0; i < count; ++i) sorted += "\u0323";
    for (std::size_t i = 0; i < count; ++i) sorted += "\u0301";
    CHECK(tokenizer.decode(tokenizer.encode(text)) == sorted);
}

TEST_CASE("normalisation composes, decomposes and loses nothing") {
    const auto normal = [](std::string_view text) {
        std::string storage;
        return std::string(qwen::to_nfc(text, storage));
    };
    CHECK(normal("") == "");
    CHECK(normal("plain") == "plain");
    CHECK(normal("e\u0301") == "\u00e9");
    CHECK(normal("ae\u0301\u0323z") == "a\u1eb9\u0301z");
    CHECK(normal("\u0301e") == "\u0301e");
    CHECK(normal("\u212b") == "\u00c5");
    CHECK(normal("\u0958") == "\u0915\u093c");  // a composition exclusion
    CHECK(normal("\u1112\u1161\u11ab!") == "\ud55c!");
    CHECK(normal("\u1112\u1161\u11a7\u11ab") == "\ud558\u11a7\u11ab");  // U+11A7 is no trailing consonant
    CHECK(normal("\uac00\u11a8") == "\uac01");
    CHECK(normal("<\u0338>") == "\u226e>");
}

TEST_CASE("merges equal those of the definition") {
    // The definition: in the leftmost of the pairs of lowest rank two become one, until there is none.
    std::mt19937 random(7);
    for (int round = 0; round < 30; ++round) {
        const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
        std::vector<std::string> texts;
        std::array<qwen::token_id, 256> byte_ids{};
        for (std::size_t b = 0; b < 256; ++b) {
            byte_ids[b] = static_cast<qwen::token_id>(b);
            texts.emplace_back(1, static_cast<char>(b));
        }
        std::vector<std::array<std::string, 2>> merges;
        for (int i = 0; i < 60; ++i) {
            const auto any = [&] {
                return below(2) == 0 || texts.size() == 256 ? 'a' + below(3) : 256 + below(texts.size() - 256);
            };
            std::array<std::string, 2> pair{texts[any()], texts[any()]};
            if (std::ranges::find(texts, pair[0] + pair[1]) != texts.end()) continue;
            texts.push_back(pair[0] + pair[1]);
            merges.push_back(std::move(pair));
        }
        std::ranges::shuffle(merges, random);  // ranks that no training gives
        const auto id_of = [&](const std::string& text) {
            return static_cast<qwen::token_id>(std::ranges::find(texts, text) - texts.begin());
        };
        qwen::byte_pair_merges tested;
        tested.reset(merges.size(), byte_ids);
        for (const auto& [left, right] : merges) tested.insert(id_of(left), id_of(right), id_of(left + right));

        for (const std::size_t length : {1u, 2u, 3u, 10u, 47u, 48u, 49u, 50u, 120u, 300u}) {
            std::string text;
            while (text.size() < length) text += static_cast<char>('a' + below(3));
            std::vector<std::string> expected;
            for (const char c : text) expected.emplace_back(1, c);
            for (bool merged = true; merged;) {
                merged = false;
                for (std::size_t rank = 0; rank < merges.size() && !merged; ++rank) {
                    for (std::size_t i = 0; i + 1 < expected.size() && !merged; ++i) {
                        if (expected[i] != merges[rank][0] || expected[i + 1] != merges[rank][1]) continue;
                        expected[i] += expected[i + 1];
                        expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(i) + 1);
                        merged = true;
                    }
                }
            }
            std::vector<qwen::token_id> ids;
            tested.encode(text, ids);
            std::vector<std::string> found;
            for (const auto id : ids) found.push_back(texts[id]);
            CHECK(found == expected);
        }
    }
}

TEST_CASE("an entry that the merges do not reach is used only where the file says so") {
    auto json = minimal();
    json["model"]["vocab"]["xyz"] = 257;
    CHECK(qwen::tokenizer(json.dump(), "m").encode("xyz").size() == 3);
    CHECK(qwen::tokenizer(json.dump(), "m").encode("ab xyz ab").size() == 7);
    json["model"]["ignore_merges"] = true;
    CHECK(qwen::tokenizer(json.dump(), "m").encode("xyz") == std::vector<qwen::token_id>{257});
    // Long texts remember their splits; the ids stay the same.
    std::string text;
    for (int i = 0; i < 1000; ++i) text += "xyz\nab\n";
    const auto ids = qwen::tokenizer(json.dump(), "m").encode(text);
    REQUIRE(ids.size() == 4000);
    CHECK(ids[3996] == 257);
    CHECK(ids[3998] == 256);
}

TEST_CASE("a vocabulary finds what it holds and nothing else") {
    qwen::vocabulary words;
    CHECK(words.find("") == nullptr);
    for (std::uint32_t i = 0; i < 5000; ++i) CHECK(words.insert("word " + std::to_string(i), i));
    CHECK_FALSE(words.insert("word 7", 1));
    CHECK(words.insert("", 9));
    CHECK(words.size() == 5001);
    for (std::uint32_t i = 0; i < 5000; ++i) CHECK(*words.find("word " + std::to_string(i)) == i);
    CHECK(*words.find("") == 9);
    CHECK(words.find("word") == nullptr);
    CHECK(words.find("word 5000") == nullptr);
    std::size_t seen = 0;
    words.for_each([&](std::string_view text, std::uint32_t id) { seen += *words.find(text) == id ? 1 : 0; });
    CHECK(seen == words.size());
}

TEST_CASE("added tokens are cut out, or left as text") {
    const qwen::tokenizer tokenizer(data / "tokenizer_qwen35.json");
    const auto* start = tokenizer.find("<|im_start|>");
    REQUIRE(start != nullptr);
    const auto with = tokenizer.encode("a<|im_start|>b");
    CHECK(with[1] == *start);
    CHECK(with.size() == 3);
    const auto without = tokenizer.encode("a<|im_start|>b", qwen::added_tokens::as_text);
    CHECK(without.size() > 3);
    for (const auto id : without) CHECK_FALSE(tokenizer.is_added(id));
    CHECK(tokenizer.decode(without) == "a<|im_start|>b");
    CHECK(tokenizer.is_special(*start));
    CHECK(tokenizer.find("no such token") == nullptr);
    CHECK(tokenizer.bytes_of(1u << 30).empty());
}

TEST_CASE("of added tokens the longest counts, before or behind the normaliser as the file says") {
    auto json = minimal();
    const auto add = [&](int id, const char* content, bool normalized) {
        json["added_tokens"].push_back({{"id", id}, {"content", content}, {"normalized", normalized}});
    };
    add(300, "<a>", false);
    add(301, "<a><b>", false);
    add(302, "<a", false);
    add(303, "e\u0301", true);
    add(304, "<c>", true);
    using ids = std::vector<qwen::token_id>;
    const qwen::tokenizer tokenizer(json.dump(), "m");
    CHECK(tokenizer.encode("<a><b><a><a") == ids{301, 300, 302});
    CHECK(tokenizer.encode("\u00e9") == ids{303});
    CHECK(tokenizer.encode("e\u0301") == ids{303});
    CHECK(tokenizer.encode("e\u0323\u0301").size() > 1);  // another letter
    CHECK(tokenizer.encode("<c>") == ids{304});
    CHECK(tokenizer.encode("<c><a").back() == 302);
    CHECK(tokenizer.encode("<c>\u0338").size() > 1);  // another sign, which is no end of the token
    CHECK(tokenizer.encode("<a>", qwen::added_tokens::as_text).size() == 3);
    CHECK(tokenizer.encode("\u00e9", qwen::added_tokens::as_text).size() == 2);
}

TEST_CASE("text that is not UTF-8 is refused with its byte") {
    const qwen::tokenizer tokenizer(data / "tokenizer_qwen35.json");
    CHECK_THROWS_WITH_AS(tokenizer.encode("ab\xff"), "text to encode: byte 2: expected UTF-8, found 0xff",
                         hlwq::format_error);
    CHECK_THROWS_AS(tokenizer.encode("\xed\xa0\x80"), hlwq::format_error);  // a surrogate
    CHECK_THROWS_AS(tokenizer.encode("\xc0\x80"), hlwq::format_error);      // two bytes for zero
    CHECK_THROWS_AS(tokenizer.encode("\xe2\x82"), hlwq::format_error);      // cut off
}

TEST_CASE("ill-formed bytes become one replacement character each, as the reference decodes them") {
    // Maximal subparts, Unicode 15 section 3.9, table 3-8.
    CHECK(qwen::replace_invalid_utf8("\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64") ==
          "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
          "b\xef\xbf\xbd"
          "c\xef\xbf\xbd\xef\xbf\xbd"
          "d");
    CHECK(qwen::to_utf8(0x1f600) == "\xf0\x9f\x98\x80");
    CHECK(qwen::code_point("\xe2\x82\xac") == 0x20ac);
}

TEST_CASE("the streaming decoder holds back parts of characters and gives them up at the end") {
    const qwen::tokenizer tokenizer(minimal().dump(), "minimal");
    const auto ids = tokenizer.encode("\xf0\x9f\x98\x80!");
    REQUIRE(ids.size() == 5);
    qwen::streaming_decoder stream(tokenizer);
    CHECK(stream.push(ids[0]).empty());
    CHECK(stream.push(ids[1]).empty());
    CHECK(stream.push(ids[2]).empty());
    CHECK(stream.push(ids[3]) == "\xf0\x9f\x98\x80");
    CHECK(stream.push(ids[4]) == "!");
    CHECK(stream.push(ids[0]).empty());
    CHECK(stream.finish() == "\xef\xbf\xbd");
    CHECK(stream.finish().empty());
}

TEST_CASE("files that contradict themselves or ask for more are refused by name") {
    CHECK(qwen::tokenizer(minimal().dump(), "m").encode("ab").size() == 1);
    auto json = minimal();
    json["model"]["merges"] = nlohmann::json::array({nlohmann::json::array({"a", "c"})});
    refuses(json, "merge 0");
    json = minimal();
    json["model"]["merges"] = nlohmann::json::array({"a b c"});
    refuses(json, "merge 0");
    json = minimal();
    json["model"]["merges"] = {{"a", "b"}};  // an object
    refuses(json, "model.merges");
    json = minimal();
    json["model"]["vocab"].erase("a");
    refuses(json, "an entry for every byte, found none for 97");
    json = minimal();
    json["model"]["type"] = "Unigram";
    refuses(json, "Unigram");
    json = minimal();
    json["model"]["byte_fallback"] = true;
    refuses(json, "byte_fallback");
    json = minimal();
    json["normalizer"] = {{"type", "NFKC"}};
    refuses(json, "NFKC");
    json = minimal();
    json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(";
    refuses(json, "pattern");
    json = minimal();
    json["pre_tokenizer"] = {{"type", "Whitespace"}};
    refuses(json, "Whitespace");
    json = minimal();
    json["added_tokens"] = nlohmann::json::array({{{"id", 300}, {"content", "<x>"}, {"lstrip", true}}});
    refuses(json, "lstrip");
    json = minimal();
    json["added_tokens"] = nlohmann::json::array({{{"id", 4000000000u}, {"content", "<x>"}}});
    refuses(json, "added_tokens");
    json = minimal();
    json["added_tokens"] = nlohmann::json::array({{{"id", 300}, {"content", std::string(2000, 'x')}}});
    refuses(json, "at most 1024 bytes, found 2000");
    json["added_tokens"] = nlohmann::json::array({{{"id", 97}, {"content", "<x>"}}});
    refuses(json, "id 97: expected one entry");
    json["added_tokens"] = nlohmann::json::array({{{"id", 300}, {"content", "ab"}}});
    refuses(json, "'ab': expected one id, found 256 and 300");
    json = minimal();
    json["model"]["vocab"]["cd"] = 256;
    refuses(json, "id 256: expected one entry");
    json["model"]["vocab"]["cd"] = 4194304;
    refuses(json, "expected below 4,194,304, found 4194304");
    json = minimal();
    json["model"]["merges"] = {{"a"}};
    refuses(json, "merge 0");
    json = minimal();
    json.erase("model");
    refuses(json, "model");
    refuses_text(minimal().dump() + std::string("\0{", 2), "zero byte");
    CHECK_THROWS_AS(qwen::tokenizer("{\"model\": {\"vocab\": {\"a\": 1,", "cut"), hlwq::format_error);
    CHECK_THROWS_AS(qwen::tokenizer("[]", "list"), hlwq::format_error);
    CHECK_THROWS_AS(qwen::tokenizer(std::string(1000, '['), "deep"), hlwq::format_error);
}
