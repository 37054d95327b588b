// What a tokenizer.json holds: the two large parts, model.vocab and model.merges, in lists of their own, the rest as a
// document
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace qwen {

struct text_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>()(text); }
};
/// Entries in their raw spelling to ids.
using vocabulary = std::unordered_map<std::string, std::uint32_t, text_hash, std::equal_to<>>;

struct tokenizer_file {
    nlohmann::json rest;
    vocabulary vocab;
    std::vector<std::pair<std::string, std::string>> merges;
};

/// Parses a tokenizer.json as it passes, without a document of its quarter of a million entries. Throws
/// hlwq::format_error, naming `source`.
tokenizer_file parse_tokenizer_file(std::string_view json, std::string_view source);

}  // namespace qwen
