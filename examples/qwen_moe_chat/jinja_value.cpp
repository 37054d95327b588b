#include "qwen_moe_chat/jinja_value.hpp"

#include "qwen_moe_chat/utf8.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace qwen::jinja {

namespace {

void append_code(const char* format, char c, std::string& out) {
    std::array<char, 8> code{};
    std::snprintf(code.data(), code.size(), format, static_cast<unsigned>(c));
    out += code.data();
}

void quote_json(const std::string& text, std::string& out) {
    out += '"';
    for (const char c : text) {
        switch (c) {
            case '"': out += "\\\""; break;
            case '\\': out += "\\\\"; break;
            case '\n': out += "\\n"; break;
            case '\r': out += "\\r"; break;
            case '\t': out += "\\t"; break;
            case '\b': out += "\\b"; break;
            case '\f': out += "\\f"; break;
            default:
                if (static_cast<unsigned char>(c) < 0x20) {
                    append_code("\\u%04x", c, out);
                } else {
                    out += c;
                }
        }
    }
    out += '"';
}

/// repr() of a string: single quotes unless only those occur inside.
void quote_python(const std::string& text, std::string& out) {
    const bool single = text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
    const char quote = single ? '"' : '\'';
    out += quote;
    for (const char c : text) {
        if (c == quote || c == '\\') {
            out += '\\';
            out += c;
        } else if (c == '\n') {
            out += "\\n";
        } else if (c == '\r') {
            out += "\\r";
        } else if (c == '\t') {
            out += "\\t";
        } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
            append_code("\\x%02x", c, out);
        } else {
            out += c;
        }
    }
    out += quote;
}

std::string number_text(const json& v) {
    if (v.is_number_unsigned()) return std::to_string(v.get<std::uint64_t>());
    if (v.is_number_integer()) return std::to_string(v.get<std::int64_t>());
    return float_text(v.get<double>());
}

/// str() at the top, repr() inside lists and mappings.
void write_python(const json& v, bool inside, std::string& out) {
    switch (v.type()) {
        case json::value_t::null: out += "None"; break;
        case json::value_t::boolean: out += v.get<bool>() ? "True" : "False"; break;
        case json::value_t::string:
            if (inside) {
                quote_python(v.get_ref<const std::string&>(), out);
            } else {
                out += v.get_ref<const std::string&>();
            }
            break;
        case json::value_t::array:
        case json::value_t::object: {
            const char* between = "";
            out += v.is_array() ? '[' : '{';
            for (auto at = v.begin(); at != v.end(); ++at) {
                out += std::exchange(between, ", ");
                if (v.is_object()) {
                    quote_python(at.key(), out);
                    out += ": ";
                }
                write_python(*at, true, out);
            }
            out += v.is_array() ? ']' : '}';
            break;
        }
        default: out += number_text(v);
    }
}

void write_python(const value& v, bool inside, std::string& out) {
    if (v.data) return write_python(*v.data, inside, out);
    if (v.list) {
        const char* between = "";
        out += '[';
        for (const auto& item : *v.list) {
            out += std::exchange(between, ", ");
            write_python(item, true, out);
        }
        out += ']';
    } else if (!v.undefined()) {
        out += v.space ? "<Namespace>" : "<function>";
    }
}

int levels_of(const json& v) {
    int inside = 0;
    if (!v.is_structured()) return 0;
    for (const auto& item : v) inside = std::max(inside, levels_of(item));
    return inside + 1;
}

bool spend_on(const json& v, std::size_t& left) {
    if (!spend(v.is_string() ? std::string_view(v.get_ref<const std::string&>()) : std::string_view(), left))
        return false;
    if (!v.is_structured()) return true;
    for (auto at = v.begin(); at != v.end(); ++at) {
        if (v.is_object() && !spend(std::string_view(at.key()), left)) return false;
        if (!spend_on(*at, left)) return false;
    }
    return true;
}

/// In Python True == 1, and no string equals a number.
bool equal_data(const json& a, const json& b) {
    if (a.is_boolean() != b.is_boolean()) {
        const auto number = [](const json& v) { return v.is_boolean() ? json(v.get<bool>() ? 1 : 0) : v; };
        return (a.is_boolean() ? b : a).is_number() && number(a) == number(b);
    }
    return a == b;
}

void write_json(const json& v, int indent, int depth, std::string& out) {
    const auto line = [&](int level) {
        if (indent >= 0) out += "\n" + std::string(static_cast<std::size_t>(indent * level), ' ');
    };
    const std::string_view comma = indent >= 0 ? "," : ", ";
    if (v.is_array() || v.is_object()) {
        const bool list = v.is_array();
        out += list ? '[' : '{';
        bool first = true;
        for (auto at = v.begin(); at != v.end(); ++at) {
            if (!std::exchange(first, false)) out += comma;
            line(depth + 1);
            if (!list) {
                quote_json(at.key(), out);
                out += ": ";
            }
            write_json(*at, indent, depth + 1, out);
        }
        if (!first) line(depth);
        out += list ? ']' : '}';
    } else if (v.is_string()) {
        quote_json(v.get_ref<const std::string&>(), out);
    } else if (v.is_null()) {
        out += "null";
    } else if (v.is_boolean()) {
        out += v.get<bool>() ? "true" : "false";
    } else {
        out += number_text(v);
    }
}

}  // namespace

value::value(json content) : data(std::make_shared<const json>(std::move(content))), levels(levels_of(*data)) {}

bool spend(std::string_view text, std::size_t& left) {
    const std::size_t cost = 16 + text.size() / 4;
    if (cost > left) return false;
    left -= cost;
    return true;
}

bool spend(const value& v, std::size_t& left) {
    if (v.data) return spend_on(*v.data, left);
    if (!spend(std::string_view(), left)) return false;
    return !v.list || std::ranges::all_of(*v.list, [&](const value& item) { return spend(item, left); });
}

bool is_true(const value& v) {
    if (v.list) return !v.list->empty();
    if (!v.data) return !v.undefined();
    switch (v.data->type()) {
        case json::value_t::null: return false;
        case json::value_t::boolean: return v.data->get<bool>();
        case json::value_t::string: return !v.text().empty();
        case json::value_t::array:
        case json::value_t::object: return !v.data->empty();
        default: return v.data->get<double>() != 0.0;
    }
}

bool equal(const value& a, const value& b) {
    if (a.undefined() || b.undefined()) return a.undefined() && b.undefined();
    if (a.data && b.data) return equal_data(*a.data, *b.data);
    return a.space == b.space && a.function == b.function && a.list == b.list;
}

std::string to_text(const value& v) {
    std::string out;
    write_python(v, false, out);
    return out;
}

std::string to_json(const json& v, int indent) {
    std::string out;
    write_json(v, indent, 0, out);
    return out;
}

std::string float_text(double number) {
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
    std::array<char, 64> buffer{};
    // Python changes to an exponent below 1e-4 and from 1e16 on.
    const double size = std::fabs(number);
    const bool plain = size == 0.0 || (size >= 1e-4 && size < 1e16);
    const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number,
                                   plain ? std::chars_format::fixed : std::chars_format::scientific);
    std::string text(buffer.data(), end.ptr);
    if (plain && text.find('.') == std::string::npos) text += ".0";
    return text;
}

std::size_t find_text(std::string_view whole, std::string_view part, std::size_t begin) {
    if (begin > whole.size()) return whole.npos;
    if (part.empty()) return begin;
    const void* at = memmem(whole.data() + begin, whole.size() - begin, part.data(), part.size());
    return at == nullptr ? whole.npos : static_cast<std::size_t>(static_cast<const char*>(at) - whole.data());
}

std::vector<std::string_view> characters(std::string_view text) {
    std::vector<std::string_view> list;
    for (std::size_t i = 0; i < text.size();) {
        const auto length = static_cast<std::size_t>(std::abs(character_length(text.substr(i))));
        list.push_back(text.substr(i, length));
        i += length;
    }
    return list;
}

std::string_view strip(std::string_view text, bool left, bool right) {
    const auto is_space = [](std::string_view character) {
        const char32_t c = code_point(character);
        return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
               (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
    };
    while (left && !text.empty()) {
        const auto length = static_cast<std::size_t>(std::abs(character_length(text)));
        if (!is_space(text.substr(0, length))) break;
        text.remove_prefix(length);
    }
    while (right && !text.empty()) {
        std::size_t begin = text.size() - 1;
        while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80) --begin;
        if (!is_space(text.substr(begin))) break;
        text.remove_suffix(text.size() - begin);
    }
    return text;
}

}  // namespace qwen::jinja
