#include "qwen_moe_chat/pre_tokenizer.hpp"

#include "qwen_moe_chat/utf8.hpp"

#include "hlwq/error.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

namespace qwen {

namespace {

/// Ranges whose characters are in NFC whatever stands beside them within these ranges: Latin, most Cyrillic, general
/// punctuation up to U+2010.., kana without sound marks, CJK ideographs, Hangul syllables.
constexpr bool is_nfc_inert(char32_t c) noexcept {
    return c < 0x300 || (c >= 0x400 && c <= 0x482) || (c >= 0x48a && c <= 0x52f) || (c >= 0x2010 && c <= 0x205f) ||
           (c >= 0x3001 && c <= 0x3029) || (c >= 0x3041 && c <= 0x3096) || (c >= 0x309d && c <= 0x30ff) ||
           (c >= 0x4e00 && c <= 0x9ffc) || (c >= 0xac00 && c <= 0xd7a3) || (c >= 0xff01 && c <= 0xff60) ||
           (c >= 0x1f300 && c <= 0x1f64f);
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
    bool inert = true;
    for (std::size_t i = 0; i < text.size() && inert;) {
        if (static_cast<unsigned char>(text[i]) < 0x80) {
            ++i;
            continue;
        }
        const auto length = static_cast<std::size_t>(character_length(text.substr(i)));
        inert = is_nfc_inert(code_point(text.substr(i, length)));
        i += length;
    }
    if (inert) return text;
    utf8proc_uint8_t* out = nullptr;
    const auto size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                     &out, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (size < 0) hlwq::throw_error<hlwq::format_error>(std::string("NFC of a text: ") + utf8proc_errmsg(size));
    storage.assign(reinterpret_cast<const char*>(out), static_cast<std::size_t>(size));
    std::free(out);
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
    for (std::size_t at = 0; at < text.size();) {
        const int found = pcre2_match(regex, subject, text.size(), at, PCRE2_NO_UTF_CHECK, match.get(), context.get());
        if (found == PCRE2_ERROR_NOMATCH) return f(text.substr(at));
        if (found < 0) {
            hlwq::throw_error<hlwq::format_error>("splitting a text: the pre-tokenizer pattern gave up at byte " +
                                                  std::to_string(at) + " (PCRE2 error " + std::to_string(found) + ")");
        }
        const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
        const std::size_t begin = range[0], end = range[1];
        if (begin > at) f(text.substr(at, begin - at));
        if (end > begin) f(text.substr(begin, end - begin));
        // An empty match moves on by one character, which joins the next split.
        at = end > at ? end : at + static_cast<std::size_t>(std::max(1, character_length(text.substr(at))));
    }
}

}  // namespace qwen
