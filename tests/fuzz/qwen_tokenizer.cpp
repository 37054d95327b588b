// A tokenizer.json is accepted or an hlwq::error; an accepted one encodes every UTF-8 text to ids whose bytes are the
// text in the normal form that the file asks for.
//
// Input: tokenizer.json, a zero byte, a text. Without JSON in front (the input begins with a zero byte) a small
// tokenizer takes its place.
#include "qwen_moe_chat/pre_tokenizer.hpp"
#include "qwen_moe_chat/tokenizer.hpp"
#include "qwen_moe_chat/utf8.hpp"

#include "hlwq/error.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace {

void require(bool condition) {
    if (!condition) __builtin_trap();
}

/// All bytes, a few merges, Qwen3.5's pattern, added tokens.
std::string small_tokenizer() {
    nlohmann::json vocab;
    char32_t next = 256;
    for (unsigned b = 0; b < 256; ++b) {
        const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        vocab[qwen::to_utf8(printable ? b : next++)] = b;
    }
    nlohmann::json merges = nlohmann::json::array();
    for (const char* pair : {"a b", "b a", "a a", "ab a", "aa aa", "\u0120 a", "ab ab", "\u00c3 \u00a9", "1 2"}) {
        std::string text = pair;
        merges.push_back(text);
        text.erase(text.find(' '), 1);
        vocab.emplace(text, vocab.size());
    }
    const nlohmann::json split = {
        {"type", "Split"},
        {"pattern",
         {{"Regex",
           R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}},
        {"behavior", "Isolated"},
        {"invert", false}};
    const nlohmann::json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    const nlohmann::json added = {{{"id", 300}, {"content", "<|im_end|>"}, {"special", true}},
                                  {{"id", 301}, {"content", "<|im"}, {"special", false}},
                                  {{"id", 302}, {"content", "e\u0301"}, {"normalized", true}}};
    return nlohmann::json{{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}},
                          {"normalizer", {{"type", "NFC"}}},
                          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}}},
                          {"decoder", {{"type", "ByteLevel"}}},
                          {"added_tokens", added}}
        .dump();
}

/// Whether an accepted file asks for NFC.
bool normalises(std::string_view json) {
    const auto normalizer = nlohmann::json::parse(json.begin(), json.end()).value("normalizer", nlohmann::json());
    return !normalizer.is_null() && (normalizer["type"] == "NFC" || !normalizer["normalizers"].empty());
}

void check(const qwen::tokenizer& tokens, std::string_view text, bool nfc) {
    std::vector<qwen::token_id> ids;
    try {
        ids = tokens.encode(text, qwen::added_tokens::as_text);
    } catch (const hlwq::format_error&) {
        return;  // not UTF-8, or too much for the pattern
    }
    require(qwen::find_invalid_utf8(text) == text.npos);
    for (const auto id : ids) require(id < tokens.size() && !tokens.bytes_of(id).empty());
    std::string storage;
    const std::string normal(nfc ? qwen::to_nfc(text, storage) : text);
    require(tokens.decode(ids) == normal);
    std::string again;
    if (nfc) require(qwen::to_nfc(normal, again) == normal);

    qwen::streaming_decoder stream(tokens);
    std::string streamed;
    for (const auto id : ids) {
        streamed += stream.push(id);
        require(qwen::find_invalid_utf8(streamed) == streamed.npos);
    }
    require(streamed + stream.finish() == normal);

    try {
        const auto with_added = tokens.encode(text);
        require(qwen::find_invalid_utf8(tokens.decode(with_added, true)) == std::string::npos);
        if (!nfc) require(tokens.decode(with_added) == text);
    } catch (const hlwq::format_error&) {  // the pattern may give up on a part alone
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string small = small_tokenizer();
    static const qwen::tokenizer fixed(small, "small");
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const std::size_t end = std::min(input.find('\0'), input.size());
    const std::string_view json = input.substr(0, end);
    const std::string_view text = input.substr(std::min(end + 1, input.size()));
    if (json.empty()) {
        check(fixed, text, true);
        return 0;
    }
    try {
        const qwen::tokenizer tokens(json, "fuzz");
        const bool nfc = normalises(json);
        check(tokens, text, nfc);
        check(tokens, "Hello, w\u00f6rld's e\u0301 12  \n x <|im_end|> \U0001f600", nfc);
    } catch (const hlwq::error&) {
    }
    return 0;
}
