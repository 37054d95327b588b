// What a tokenizer.json holds: the two large parts, model.vocab and model.merges, in lists of their own, the rest as a
// document
#pragma once

#include "qwen_moe_chat/vocabulary.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qwen {

/// Pairs of symbols, all texts in one.
class symbol_pairs {
  public:
    void push_back(std::string_view left, std::string_view right) {
        texts_.append(left).append(right);
        ends_.push_back({texts_.size() - right.size(), texts_.size()});
    }
    std::size_t size() const noexcept { return ends_.size(); }
    std::string_view left(std::size_t i) const noexcept { return joined(i).substr(0, ends_[i].left - begin(i)); }
    std::string_view right(std::size_t i) const noexcept { return joined(i).substr(ends_[i].left - begin(i)); }
    std::string_view joined(std::size_t i) const noexcept {
        return std::string_view(texts_).substr(begin(i), ends_[i].right - begin(i));
    }

  private:
    struct ends {
        std::size_t left, right;
    };
    std::size_t begin(std::size_t i) const noexcept { return i == 0 ? 0 : ends_[i - 1].right; }
    std::string texts_;
    std::vector<ends> ends_;
};

struct tokenizer_file {
    nlohmann::json rest;
    vocabulary vocab;  // entries in their raw spelling
    symbol_pairs merges;
};

/// Parses a tokenizer.json as it passes, without a document of its quarter of a million entries. Throws
/// hlwq::format_error, naming `source`.
tokenizer_file parse_tokenizer_file(std::string_view json, std::string_view source);

}  // namespace qwen
