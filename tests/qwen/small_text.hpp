// tests/qwen/small_text.hpp — a tokenizer for models of 512 rows: single bytes, and the added tokens of a chat
#pragma once

#include "qwen_moe_chat/tokenizer.hpp"

#include "hlwq/io/file.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <utility>

namespace small {

using qwen::token_id;

// Ids 256 to 499 and 507 to 508 have no token.
inline constexpr token_id think = 505, end_of_thinking = 506, end_of_text = 509, start = 510, end = 511;

inline const qwen::tokenizer& tokenizer() {
    static const qwen::tokenizer loaded = [] {
        const auto file = std::filesystem::path(HLWQ_TEST_DATA) / "tokenizer" / "tokenizer_qwen35.json";
        auto json = nlohmann::json::parse(hlwq::io::read_text_file(file));
        nlohmann::json bytes;
        for (const auto& [entry, id] : json["model"]["vocab"].items()) {
            if (id.get<int>() < 256) bytes[entry] = id;
        }
        json["model"]["vocab"] = bytes;
        json["model"]["merges"] = nlohmann::json::array();
        auto& added = json["added_tokens"] = nlohmann::json::array();
        for (const auto& [content, id] : {std::pair{"<think>", think},
                                          {"</think>", end_of_thinking},
                                          {"<|audio_pad|>", 500u},
                                          {"<|endoftext|>", end_of_text},
                                          {"<|im_start|>", start},
                                          {"<|im_end|>", end}}) {
            added.push_back({{"id", id},
                             {"content", content},
                             {"single_word", false},
                             {"lstrip", false},
                             {"rstrip", false},
                             {"normalized", false},
                             {"special", std::string(content).find('|') != std::string::npos}});
        }
        return qwen::tokenizer(json.dump(), "small tokenizer");
    }();
    return loaded;
}

}  // namespace small
