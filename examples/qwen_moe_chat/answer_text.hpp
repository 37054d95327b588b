// qwen_moe_chat/answer_text.hpp — the text of an answer while it comes: stop strings, thinking
//
// Both take text in pieces of any size and give it back as soon as it is certain, and no later: only what could be the
// beginning of a stop string or of a tag is held back. The result does not depend on how the text was cut.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qwen {

/// The length of the longest end of `text` with which one of `words` begins, short of the whole word.
std::size_t longest_beginning(std::string_view text, std::span<const std::string> words) noexcept;

/// Ends a text where a stop string is complete. Of several the one that is complete first ends it, of those the
/// longest; the stop string itself is not part of the text.
class stop_strings {
  public:
    /// Empty strings stop nothing.
    explicit stop_strings(std::vector<std::string> words);

    /// The text that became certain; empty once stopped.
    std::string push(std::string_view text);
    /// What was held back, at the end of the text.
    std::string finish();
    /// Whether a stop string was met.
    bool stopped() const noexcept { return stopped_; }

  private:
    std::vector<std::string> words_;
    std::string held_;
    bool stopped_ = false;
};

/// Splits the text of a model into what stands between <think> and </think> at its beginning, and the answer. Line
/// breaks beside the tags belong to neither.
class thinking_splitter {
  public:
    struct piece {
        std::string thinking, answer;  // either may be empty
    };

    /// `inside`: the prompt has already opened <think>.
    explicit thinking_splitter(bool inside) : where_(inside ? where::thinking_begin : where::start) {}

    piece push(std::string_view text);
    piece finish();

  private:
    enum class where { start, thinking_begin, thinking, answer_begin, answer };

    piece take(bool last);

    where where_;
    std::string held_;
};

}  // namespace qwen
