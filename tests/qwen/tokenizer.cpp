#include "qwen_moe_chat/tokenizer.hpp"

#include "qwen_moe_chat/pre_tokenizer.hpp"
#include "qwen_moe_chat/utf8.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
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

void refuses(const nlohmann::json& json, const char* part) {
    try {
        const qwen::tokenizer loaded(json.dump(), "t.json");
        FAIL("accepted: expected an error with " << part);
    } catch (const hlwq::error& error) {
        CHECK_MESSAGE(std::string(error.what()).find(part) != std::string::npos, error.what());
    }
}

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

TEST_CASE("a megabyte of one character is a text like any other") {
    const qwen::tokenizer tokenizer(data / "tokenizer_qwen35.json");
    for (const char c : {'a', ' ', '\n', '<', '1'}) {
        const std::string text(1 << 20, c);
        const auto ids = tokenizer.encode(text);
        CHECK(tokenizer.decode(ids) == text);
    }
}

TEST_CASE("short and long splits merge alike") {
    const qwen::tokenizer tokenizer(data / "tokenizer_qwen35.json");
    // 48 letters take the short way, 49 the long one; a merge never crosses more than the letters it joins, so the
    // first tokens of both agree for a text of repeated words.
    for (const std::string word : {"the", "ing", "aaaa", "hello", "zq"}) {
        std::string text;
        while (text.size() < 48) text += word;
        text.resize(48);
        const auto ids = tokenizer.encode(text);
        std::string longer = text + text;
        const auto twice = tokenizer.encode(longer);
        CHECK(tokenizer.decode(twice) == longer);
        CHECK(tokenizer.decode(ids) == text);
    }
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
    refuses(json, "byte 97");
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
    json.erase("model");
    refuses(json, "model");
    CHECK_THROWS_AS(qwen::tokenizer("{\"model\": {\"vocab\": {\"a\": 1,", "cut"), hlwq::format_error);
    CHECK_THROWS_AS(qwen::tokenizer("[]", "list"), hlwq::format_error);
    CHECK_THROWS_AS(qwen::tokenizer(std::string(1000, '['), "deep"), hlwq::format_error);
}
