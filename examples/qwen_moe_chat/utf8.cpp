#include "qwen_moe_chat/utf8.hpp"

#include <cstdlib>

namespace qwen {

int character_length(std::string_view text) noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    int length = 0;
    unsigned low = 0x80, high = 0xbf;  // bounds of the second byte (Unicode table 3-7)
    if (first >= 0xc2 && first <= 0xdf) {
        length = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        length = 3;
        if (first == 0xe0) low = 0xa0;
        if (first == 0xed) high = 0x9f;
    } else if (first >= 0xf0 && first <= 0xf4) {
        length = 4;
        if (first == 0xf0) low = 0x90;
        if (first == 0xf4) high = 0x8f;
    } else {
        return -1;
    }
    for (int i = 1; i < length; ++i) {
        if (static_cast<std::size_t>(i) >= text.size()) return -i;
        const unsigned next = byte(static_cast<std::size_t>(i));
        if (next < low || next > high) return -i;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

bool is_incomplete_character(std::string_view text) noexcept {
    const int length = character_length(text);
    const auto first = static_cast<unsigned char>(text[0]);
    return length < 0 && static_cast<std::size_t>(-length) == text.size() && first >= 0xc2 && first <= 0xf4;
}

char32_t code_point(std::string_view character) noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(character[i])); };
    switch (character.size()) {
        case 1: return byte(0);
        case 2: return (byte(0) & 0x1f) << 6 | (byte(1) & 0x3f);
        case 3: return (byte(0) & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
        default: return (byte(0) & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f);
    }
}

std::string to_utf8(char32_t c) {
    const auto byte = [](char32_t value) { return static_cast<char>(value); };
    if (c < 0x80) return {byte(c)};
    if (c < 0x800) return {byte(0xc0 | (c >> 6)), byte(0x80 | (c & 0x3f))};
    if (c < 0x10000) return {byte(0xe0 | (c >> 12)), byte(0x80 | ((c >> 6) & 0x3f)), byte(0x80 | (c & 0x3f))};
    return {byte(0xf0 | (c >> 18)), byte(0x80 | ((c >> 12) & 0x3f)), byte(0x80 | ((c >> 6) & 0x3f)),
            byte(0x80 | (c & 0x3f))};
}

std::size_t find_invalid_utf8(std::string_view text) noexcept {
    for (std::size_t i = 0; i < text.size();) {
        if (static_cast<unsigned char>(text[i]) < 0x80) {
            ++i;
            continue;
        }
        const int length = character_length(text.substr(i));
        if (length < 0) return i;
        i += static_cast<std::size_t>(length);
    }
    return text.npos;
}

std::string replace_invalid_utf8(std::string_view text) {
    if (find_invalid_utf8(text) == text.npos) return std::string(text);
    std::string result;
    for (std::size_t i = 0; i < text.size();) {
        const int length = character_length(text.substr(i));
        if (length > 0) {
            result += text.substr(i, static_cast<std::size_t>(length));
        } else {
            result += replacement_character;
        }
        i += static_cast<std::size_t>(std::abs(length));
    }
    return result;
}

}  // namespace qwen
