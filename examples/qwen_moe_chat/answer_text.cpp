#include "qwen_moe_chat/answer_text.hpp"

#include <algorithm>
#include <utility>

namespace qwen {

std::size_t longest_beginning(std::string_view text, std::span<const std::string> words) noexcept {
    std::size_t longest = 0;
    for (const std::string& word : words) {
        for (std::size_t n = std::min(word.size(), text.size() + 1); n-- > longest + 1;) {
            if (text.substr(text.size() - n) == std::string_view(word).substr(0, n)) longest = n;
        }
    }
    return longest;
}

stop_strings::stop_strings(std::vector<std::string> words) : words_(std::move(words)) { std::erase(words_, ""); }

std::string stop_strings::push(std::string_view text) {
    if (stopped_) return "";
    std::size_t at = held_.size();
    held_ += text;
    while (at < held_.size()) {
        const auto so_far = std::string_view(held_).substr(0, ++at);
        std::size_t longest = 0;
        for (const std::string& word : words_) {
            if (so_far.ends_with(word)) longest = std::max(longest, word.size());
        }
        if (longest != 0) {
            stopped_ = true;
            held_.resize(at - longest);
            return std::exchange(held_, "");
        }
    }
    const std::size_t keep = longest_beginning(held_, words_);
    std::string certain = held_.substr(0, held_.size() - keep);
    held_.erase(0, certain.size());
    return certain;
}

std::string stop_strings::finish() { return std::exchange(held_, ""); }

thinking_splitter::piece thinking_splitter::push(std::string_view text) {
    held_ += text;
    return take(false);
}

thinking_splitter::piece thinking_splitter::finish() { return take(true); }

thinking_splitter::piece thinking_splitter::take(bool last) {
    static const std::string opening = "<think>", closing = "</think>";
    piece result;
    const auto skip_breaks = [&](where next) {
        held_.erase(0, held_.find_first_not_of('\n'));
        if (!held_.empty()) where_ = next;
    };
    if (where_ == where::start) {
        const std::size_t text = held_.find_first_not_of(" \t\r\n");
        const auto rest = std::string_view(held_).substr(std::min(text, held_.size()));
        if (rest.starts_with(opening)) {
            held_.erase(0, text + opening.size());
            where_ = where::thinking_begin;
        } else if (last || !opening.starts_with(rest)) {
            where_ = where::answer;
        }
    }
    if (where_ == where::thinking_begin) skip_breaks(where::thinking);
    if (where_ == where::thinking) {
        const std::size_t end = held_.find(closing);
        // Line breaks in front of the closing tag are held back with it.
        std::size_t certain = end != std::string::npos ? end : held_.size();
        if (end == std::string::npos && !last) certain -= longest_beginning(held_, {&closing, 1});
        while (certain != 0 && held_[certain - 1] == '\n') --certain;
        result.thinking = held_.substr(0, certain);
        held_.erase(0, end == std::string::npos ? certain : end + closing.size());
        if (end != std::string::npos) where_ = where::answer_begin;
        if (last) held_.clear();
    }
    if (where_ == where::answer_begin) skip_breaks(where::answer);
    if (where_ == where::answer) result.answer = std::exchange(held_, "");
    return result;
}

}  // namespace qwen
