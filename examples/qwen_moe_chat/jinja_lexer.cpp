#include "qwen_moe_chat/jinja_lexer.hpp"

#include "qwen_moe_chat/utf8.hpp"

#include "hlwq/error.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <utility>

namespace qwen::jinja {

void fail_at(const std::string& name, int line, const std::string& problem) {
    hlwq::throw_error<hlwq::format_error>(name + ", line " + std::to_string(line) + ": " + problem);
}

namespace {

/// Cuts a template into pieces and tokens, and applies the rules of white space.
class lexer {
  public:
    lexer(std::string_view source, const std::string& name) : source_(source), name_(name) {}

    std::vector<piece> pieces() {
        while (at_ < source_.size()) {
            const std::size_t open = find_open();
            std::string text(source_.substr(at_, open - at_));
            if (std::exchange(trim_next_, false)) text.erase(0, text.find_first_not_of(" \t\r\n\v\f"));
            const int text_line = line_;
            advance(open);
            if (open < source_.size()) {
                const char sign = open + 2 < source_.size() ? source_[open + 2] : ' ';
                if (sign == '-') {
                    text.erase(text.find_last_not_of(" \t\r\n\v\f") + 1);
                } else if (source_[open + 1] != '{' && sign != '+') {
                    strip_line_start(text);
                }
            }
            if (!text.empty()) list_.push_back({piece::type::text, std::move(text), {}, text_line});
            if (open < source_.size()) read_tag();
        }
        return std::move(list_);
    }

  private:
    std::size_t find_open() const {
        for (std::size_t i = at_; i + 1 < source_.size(); ++i) {
            if (source_[i] == '{' && (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#'))
                return i;
        }
        return source_.size();
    }
    void advance(std::size_t to) {
        line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                             source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
        at_ = to;
    }
    /// lstrip_blocks: blanks between the start of a line and a tag fall away.
    void strip_line_start(std::string& text) const {
        const std::size_t last = text.find_last_not_of(" \t");
        if (last == std::string::npos) {
            const bool at_line_start = list_.empty() || ends_line_;
            if (at_line_start) text.clear();
        } else if (text[last] == '\n') {
            text.erase(last + 1);
        }
    }
    void read_tag() {
        const char kind = source_[at_ + 1];
        const int line = line_;
        const std::string close = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
        std::size_t begin = at_ + 2;
        if (begin < source_.size() && (source_[begin] == '-' || source_[begin] == '+')) ++begin;
        std::vector<token> tokens;
        std::size_t end = begin;
        if (kind == '#') {
            end = source_.find(close, begin);
        } else {
            end = tokenise(begin, close, tokens);
        }
        if (end == source_.npos) fail_at(name_, line, std::string("'{") + kind + "' is never closed");
        const bool trim = end > begin && source_[end - 1] == '-';
        const bool keep = end > begin && source_[end - 1] == '+';
        advance(end + 2);
        trim_next_ = trim;
        ends_line_ = false;
        // trim_blocks: the first newline behind a block or a comment falls away.
        if (!trim && !keep && kind != '{' && at_ < source_.size() && source_[at_] == '\n') {
            advance(at_ + 1);
            ends_line_ = true;
        }
        if (kind == '#') return;
        list_.push_back({kind == '{' ? piece::type::output : piece::type::statement, {}, std::move(tokens), line});
    }
    /// Tokens up to the closing mark; its place, or npos.
    std::size_t tokenise(std::size_t i, const std::string& close, std::vector<token>& tokens) {
        int line = line_;
        const auto is_close = [&](std::size_t k) {
            return source_.substr(k, 2) == close ||
                   ((source_[k] == '-' || source_[k] == '+') && source_.substr(k + 1, 2) == close);
        };
        int braces = 0;
        while (i < source_.size()) {
            const char c = source_[i];
            if (c == '\n') ++line;
            if (std::isspace(static_cast<unsigned char>(c)) != 0) {
                ++i;
            } else if (braces == 0 && is_close(i)) {
                tokens.push_back({token::type::end, {}, line});
                return source_.substr(i, 2) == close ? i : i + 1;
            } else if (c == '\'' || c == '"') {
                i = read_string(i, line, tokens);
            } else if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
                const std::size_t first = i;
                while (i < source_.size() && (std::isalnum(static_cast<unsigned char>(source_[i])) != 0 ||
                                              (source_[i] == '.' && i + 1 < source_.size() &&
                                               std::isdigit(static_cast<unsigned char>(source_[i + 1])) != 0))) {
                    ++i;
                }
                tokens.push_back({token::type::number, std::string(source_.substr(first, i - first)), line});
            } else if (std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_') {
                const std::size_t first = i;
                while (i < source_.size() &&
                       (std::isalnum(static_cast<unsigned char>(source_[i])) != 0 || source_[i] == '_')) {
                    ++i;
                }
                tokens.push_back({token::type::name, std::string(source_.substr(first, i - first)), line});
            } else {
                static constexpr std::array<std::string_view, 7> pairs = {"==", "!=", "<=", ">=", "//", "**", "->"};
                const std::string_view two = source_.substr(i, 2);
                const bool pair = std::ranges::find(pairs, two) != pairs.end();
                static constexpr std::string_view known = "+-*/%~<>=()[]{}.,:|";
                if (!pair && known.find(c) == known.npos) {
                    fail_at(name_, line, std::string("unexpected character '") + c + "'");
                }
                if (c == '{') ++braces;
                if (c == '}') --braces;
                tokens.push_back({token::type::symbol, std::string(pair ? two : two.substr(0, 1)), line});
                i += pair ? 2 : 1;
            }
        }
        return source_.npos;
    }
    std::size_t read_string(std::size_t i, int& line, std::vector<token>& tokens) {
        const char quote = source_[i];
        const int first_line = line;
        std::string text;
        for (++i; i < source_.size() && source_[i] != quote; ++i) {
            if (source_[i] == '\n') ++line;
            if (source_[i] != '\\' || i + 1 >= source_.size()) {
                text += source_[i];
                continue;
            }
            switch (source_[++i]) {
                case 'n': text += '\n'; break;
                case 't': text += '\t'; break;
                case 'r': text += '\r'; break;
                case 'b': text += '\b'; break;
                case 'f': text += '\f'; break;
                case '\\': text += '\\'; break;
                case '\'': text += '\''; break;
                case '"': text += '"'; break;
                case '\n': break;
                case 'x': i = read_code(i, 2, line, text); break;
                case 'u': i = read_code(i, 4, line, text); break;
                case 'U': i = read_code(i, 8, line, text); break;
                default: fail_at(name_, line, std::string("unknown escape '\\") + source_[i] + "' in a string");
            }
        }
        if (i >= source_.size()) fail_at(name_, first_line, "a string is never closed");
        tokens.push_back({token::type::string, std::move(text), first_line});
        return i + 1;
    }

    /// The character of a numeric escape, whose letter is at `i`; the place of its last digit.
    std::size_t read_code(std::size_t i, std::size_t digits, int line, std::string& text) const {
        std::uint32_t code = 0;
        const std::string_view number = source_.substr(std::min(i + 1, source_.size()), digits);
        const auto r = std::from_chars(number.data(), number.data() + number.size(), code, 16);
        if (r.ec != std::errc() || r.ptr != number.data() + digits || code > 0x10ffff || (code >> 11) == 0x1b) {
            fail_at(name_, line, "an escape that is no character");
        }
        text += to_utf8(code);
        return i + digits;
    }

    std::string_view source_;
    const std::string& name_;
    std::vector<piece> list_;
    std::size_t at_ = 0;
    int line_ = 1;
    bool trim_next_ = false;
    bool ends_line_ = true;
};

}  // namespace

std::vector<piece> cut_template(std::string_view source, const std::string& name) {
    // Jinja drops one newline at the end of a template.
    if (source.ends_with('\n')) source.remove_suffix(1);
    return lexer(source, name).pieces();
}

}  // namespace qwen::jinja
