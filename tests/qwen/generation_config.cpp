// generation_config.json: fields, defaults, refusals; what ends an answer, what is never drawn.
#include "small_text.hpp"

#include "qwen_moe_chat/generation_config.hpp"

#include "hlwq/error.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

namespace {

using nlohmann::json;
using ids = std::vector<qwen::token_id>;

qwen::generation_config read(const char* text) {
    return qwen::read_generation_config(json::parse(text, nullptr, false));
}

void refused(const char* text, const std::string& message) {
    try {
        read(text);
        FAIL("accepted: expected " << message);
    } catch (const hlwq::format_error& error) {
        CHECK(std::string(error.what()) == message);
    }
}

}  // namespace

TEST_CASE("fields that are there") {
    const auto c = read(R"({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.1,
                            "presence_penalty": 1.5, "frequency_penalty": -0.5, "repetition_penalty": 1.05,
                            "max_new_tokens": 77, "eos_token_id": [7, 5, 7], "transformers_version": "4.57.1"})");
    CHECK(c.do_sample);
    CHECK(c.sampling.temperature == 0.6);
    CHECK(c.sampling.top_k == 20);
    CHECK(c.sampling.top_p == 0.95);
    CHECK(c.sampling.min_p == 0.1);
    CHECK(c.sampling.presence_penalty == 1.5);
    CHECK(c.sampling.frequency_penalty == -0.5);
    CHECK(c.sampling.repetition_penalty == 1.05);
    CHECK(c.max_new_tokens == 77);
    CHECK(c.end_tokens == ids{7, 5});
    CHECK(read(R"({"eos_token_id": 3})").end_tokens == ids{3});
    CHECK(read(R"({"top_k": -1})").sampling.top_k == 0);
    CHECK(read(R"({"top_k": 0, "temperature": 1})").sampling.top_k == 0);
}

TEST_CASE("fields that are not there, and no file, are as in transformers") {
    const auto folder = std::filesystem::path(HLWQ_TEST_DATA) / "moe_tiny";
    REQUIRE_FALSE(std::filesystem::exists(folder / "generation_config.json"));
    for (const auto& c : {read("{}"), read(R"({"top_k": null, "eos_token_id": null, "min_p": null})"),
                          qwen::read_generation_config(folder)}) {
        CHECK_FALSE(c.do_sample);
        CHECK(c.sampling.temperature == 1.0);
        CHECK(c.sampling.top_k == 50 - (c.sampling.top_k == 0 ? 50 : 0));
        CHECK(c.sampling.top_p == 1.0);
        CHECK(c.sampling.min_p == 0.0);
        CHECK(c.sampling.repetition_penalty == 1.0);
        CHECK_FALSE(c.max_new_tokens.has_value());
        CHECK(c.end_tokens.empty());
    }
}

TEST_CASE("what is malformed is refused by the name of the field") {
    refused("[]", "generation_config.json: expected a JSON object, found array");
    refused(R"({"do_sample": 1})", "generation_config.json: do_sample: expected true or false, found 1");
    refused(R"({"temperature": "hot"})",
            "generation_config.json: temperature: expected a number from 0, found \"hot\"");
    refused(R"({"temperature": -1})", "generation_config.json: temperature: expected a number from 0, found -1");
    refused(R"({"top_k": 2.5})", "generation_config.json: top_k: expected an integer from 0, found 2.5");
    refused(R"({"top_k": -2})", "generation_config.json: top_k: expected an integer from 0, found -2");
    refused(R"({"top_p": 1.1})", "generation_config.json: top_p: expected a number from 0 to 1, found 1.1");
    refused(R"({"min_p": [0.1]})", "generation_config.json: min_p: expected a number from 0 to 1, found array");
    refused(R"({"repetition_penalty": 0})",
            "generation_config.json: repetition_penalty: expected a number above 0, found 0");
    refused(R"({"max_new_tokens": 0})", "generation_config.json: max_new_tokens: expected an integer from 1, found 0");
    refused(R"({"eos_token_id": "x"})",
            "generation_config.json: eos_token_id: expected a token id or a list of them, found \"x\"");
    refused(R"({"eos_token_id": [1, -2]})",
            "generation_config.json: eos_token_id: expected a token id or a list of them, found -2");
}

TEST_CASE("an answer ends at the tokens of both files and of the tokenizer") {
    qwen::model_config config;
    config.vocabulary = 512;
    config.end_tokens = {5, small::end};
    CHECK(qwen::end_tokens(config, read(R"({"eos_token_id": [7, 5]})"), small::tokenizer()) ==
          ids{5, small::end, 7, small::end_of_text});
    CHECK_THROWS_WITH_AS(qwen::end_tokens(config, read(R"({"eos_token_id": [512]})"), small::tokenizer()),
                         "generation_config.json: eos_token_id: expected token ids below 512, found 512",
                         hlwq::format_error);
    config.vocabulary = 510;  // a model that was cut, with a tokenizer that was not
    config.end_tokens = {};
    CHECK(qwen::end_tokens(config, read("{}"), small::tokenizer()) == ids{small::end_of_text});
}

TEST_CASE("rows without a token, and tokens that stand for sound, are not used") {
    qwen::model_config config;
    config.vocabulary = 520;  // rows beyond the tokenizer's last
    ids expected;
    for (qwen::token_id id = 256; id < 505; ++id) expected.push_back(id);  // 500 is <|audio_pad|>
    for (const qwen::token_id id : {507u, 508u, 512u, 513u, 514u, 515u, 516u, 517u, 518u, 519u}) expected.push_back(id);
    CHECK(qwen::unused_tokens(config, small::tokenizer()) == expected);
}
