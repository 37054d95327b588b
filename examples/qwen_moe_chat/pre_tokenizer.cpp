#include "qwen_moe_chat/pre_tokenizer.hpp"

#include "qwen_moe_chat/utf8.hpp"

#include "hlwq/error.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <iterator>
#include <vector>

namespace qwen {

namespace {

struct range {
    char32_t first, last;
};
/// Characters that are in NFC whatever stands before them, and begin a new unit of normalisation: most of Latin, Greek,
/// Cyrillic, Armenian, Hebrew, Arabic, Devanagari and Thai, punctuation, kana, CJK ideographs, Hangul syllables, emoji;
/// and U+11A7, which stands before the trailing consonants: behind a syllable without one, utf8proc 2.8 drops it.
constexpr range inert[] = {{0x0, 0x2ff},     {0x388, 0x482},   {0x48a, 0x58f},   {0x5d0, 0x5ea},    {0x620, 0x64a},
                           {0x904, 0x939},   {0x93e, 0x94c},   {0xe01, 0xe37},   {0xe40, 0xe47},    {0x11a7, 0x11a7},
                           {0x1e00, 0x1f6f}, {0x2010, 0x205f}, {0x3001, 0x3029}, {0x3041, 0x3096},  {0x309d, 0x30ff},
                           {0x4e00, 0x9ffc}, {0xac00, 0xd7a3}, {0xff01, 0xff60}, {0x1f300, 0x1f64f}};

/// The inert characters below U+3000, where most ranges are, a bit each.
constexpr std::array<std::uint64_t, 0x3000 / 64> inert_bits = [] {
    std::array<std::uint64_t, 0x3000 / 64> bits{};
    for (const range r : inert) {
        for (char32_t c = r.first; c <= r.last && c < 0x3000; ++c) bits[c / 64] |= std::uint64_t{1} << c % 64;
    }
    return bits;
}();

bool is_nfc_inert(char32_t c) noexcept {
    if (c < 0x3000) return (inert_bits[c / 64] >> c % 64 & 1) != 0;
    return std::ranges::any_of(inert, [c](range r) { return c >= r.first && c <= r.last; });
}

/// Appends the NFC of a text. `points` is memory for use again.
void append_nfc(std::string_view text, std::vector<utf8proc_int32_t>& points, std::string& out) {
    // Decomposed and sorted here, because utf8proc_decompose sorts by exchanging neighbours: quadratic in the marks
    // that follow one letter.
    points.clear();
    for (std::size_t i = 0; i < text.size();) {
        const auto length = static_cast<std::size_t>(character_length(text.substr(i)));
        const auto point = static_cast<utf8proc_int32_t>(code_point(text.substr(i, length)));
        i += length;
        utf8proc_int32_t parts[16];
        int boundary = 0;
        const auto count = utf8proc_decompose_char(point, parts, std::ssize(parts), UTF8PROC_DECOMPOSE, &boundary);
        if (count < 0 || count > std::ssize(parts)) {
            hlwq::throw_error<hlwq::format_error>(std::string("NFC of a text: ") + utf8proc_errmsg(count));
        }
        points.insert(points.end(), parts, parts + count);
    }
    const auto combining_class = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
    for (auto at = points.begin(); at != points.end();) {
        const auto first = std::find_if(at, points.end(), [&](auto c) { return combining_class(c) != 0; });
        at = std::find_if(first, points.end(), [&](auto c) { return combining_class(c) == 0; });
        if (!std::ranges::is_sorted(first, at, {}, combining_class)) {
            std::ranges::stable_sort(first, at, {}, combining_class);
        }
    }
    const auto count = utf8proc_normalize_utf32(points.data(), std::ssize(points),
                                                static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
        utf8proc_uint8_t bytes[4];
        const auto length = utf8proc_encode_char(points[static_cast<std::size_t>(i)], bytes);
        out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length));
    }
}

/// PCRE2's \s counts U+180E as white space, the reference does not: the pattern gets Unicode's White_Space spelled out.
std::string with_explicit_space(std::string_view pattern) {
    constexpr std::string_view space =
        R"(\x09-\x0d\x20\x85\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
    std::string result;
    bool in_class = false;
    for (std::size_t i = 0; i < pattern.size(); ++i) {
        const char c = pattern[i];
        if (c == '\\' && i + 1 < pattern.size()) {
            const char next = pattern[++i];
            if (next == 's') {
                result += in_class ? std::string(space) : "[" + std::string(space) + "]";
            } else if (next == 'S' && !in_class) {
                result += "[^" + std::string(space) + "]";
            } else {
                result += c;
                result += next;
            }
            continue;
        }
        if (c == '[') in_class = true;
        if (c == ']') in_class = false;
        result += c;
    }
    return result;
}

struct match_free {
    void operator()(pcre2_match_data* data) const noexcept { pcre2_match_data_free(data); }
};
struct context_free {
    void operator()(pcre2_match_context* context) const noexcept { pcre2_match_context_free(context); }
};
struct stack_free {
    void operator()(pcre2_jit_stack* stack) const noexcept { pcre2_jit_stack_free(stack); }
};

}  // namespace

std::string_view to_nfc(std::string_view text, std::string& storage) {
    storage.clear();
    std::vector<utf8proc_int32_t> points;
    std::size_t copied = 0;  // up to here the text is in storage
    std::size_t unit = 0;    // where the last inert character begins
    bool plain = true;       // since then nothing else has come
    const auto normalise = [&](std::size_t end) {
        storage.append(text, copied, unit - copied);
        append_nfc(text.substr(unit, end - unit), points, storage);
        copied = end;
    };
    for (std::size_t i = 0; i < text.size();) {
        const bool ascii = static_cast<unsigned char>(text[i]) < 0x80;
        const std::size_t length = ascii ? 1 : static_cast<std::size_t>(character_length(text.substr(i)));
        if (ascii || is_nfc_inert(code_point(text.substr(i, length)))) {
            if (!plain) normalise(i);
            unit = i;
            plain = true;
        } else {
            plain = false;
        }
        i += length;
    }
    if (!plain) normalise(text.size());
    if (copied == 0) return text;
    storage.append(text, copied);
    return storage;
}

splitter::splitter(const std::string& pattern, std::string_view source) {
    int code = 0;
    PCRE2_SIZE at = 0;
    const std::string text = with_explicit_space(pattern);
    pcre2_code* regex = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, nullptr);
    if (regex == nullptr) {
        PCRE2_UCHAR message[200] = {};
        pcre2_get_error_message(code, message, sizeof message);
        hlwq::throw_error<hlwq::format_error>("tokenizer " + std::string(source) +
                                              ": pre-tokenizer pattern: " + reinterpret_cast<const char*>(message) +
                                              " at character " + std::to_string(at));
    }
    regex_ = std::shared_ptr<const void>(
        regex, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); });
    pcre2_jit_compile(regex, PCRE2_JIT_COMPLETE);  // without JIT the interpreter does the same, slower
}

void splitter::split(std::string_view text, const std::function<void(std::string_view)>& f) const {
    const auto* regex = static_cast<const pcre2_code*>(regex_.get());
    const std::unique_ptr<pcre2_match_data, match_free> match(pcre2_match_data_create_from_pattern(regex, nullptr));
    const std::unique_ptr<pcre2_match_context, context_free> context(pcre2_match_context_create(nullptr));
    const std::unique_ptr<pcre2_jit_stack, stack_free> stack(pcre2_jit_stack_create(32 * 1024, 8 << 20, nullptr));
    if (!match || !context) hlwq::throw_error<hlwq::error>("splitting a text: out of memory");
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    // Against patterns that try everything: more than enough for one run of white space as long as the text.
    const std::size_t limit = 100'000 + 16 * text.size();
    pcre2_set_match_limit(context.get(), static_cast<std::uint32_t>(std::min<std::size_t>(limit, 1'000'000'000)));
    std::size_t split = 0;  // begins here
    for (std::size_t at = 0; at < text.size();) {
        const int found = pcre2_match(regex, subject, text.size(), at, PCRE2_NO_UTF_CHECK, match.get(), context.get());
        if (found == PCRE2_ERROR_NOMATCH) break;
        if (found < 0) {
            hlwq::throw_error<hlwq::format_error>("splitting a text: the pre-tokenizer pattern gave up at byte " +
                                                  std::to_string(at) + " (PCRE2 error " + std::to_string(found) + ")");
        }
        const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
        const std::size_t begin = range[0], end = range[1];
        if (begin > split) f(text.substr(split, begin - split));
        if (end > begin) f(text.substr(begin, end - begin));
        split = end;
        // Behind an empty match the search goes on after the next character.
        at = end > begin || end >= text.size()
                 ? end
                 : end + static_cast<std::size_t>(std::max(1, character_length(text.substr(end))));
    }
    if (split < text.size()) f(text.substr(split));
}

}  // namespace qwen
