// UTF-8: where characters begin and end, and what to do with bytes that are none (Unicode 15, table 3-7)
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace qwen {

inline constexpr std::string_view replacement_character = "\xef\xbf\xbd";

/// Length of the well-formed character at the start of `text`, which is not empty, or minus the length of the maximal
/// ill-formed part.
int character_length(std::string_view text) noexcept;
/// Whether `text`, ill-formed as a whole, could still become a character with more bytes.
bool is_incomplete_character(std::string_view text) noexcept;
/// The code point of one well-formed character.
char32_t code_point(std::string_view character) noexcept;
/// A code point as UTF-8.
std::string to_utf8(char32_t c);

/// Offset of the first byte that is not part of a well-formed character, or npos.
std::size_t find_invalid_utf8(std::string_view text) noexcept;
/// `text` with every maximal ill-formed sequence replaced by U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace qwen
