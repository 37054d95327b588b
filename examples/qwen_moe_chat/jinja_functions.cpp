#include "qwen_moe_chat/jinja_functions.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <utility>

namespace qwen::jinja {

/// A list stays data where all of its items are.
value make_list(std::vector<value> items) {
    if (std::ranges::all_of(items, [](const value& v) { return v.data != nullptr; })) {
        json list = json::array();
        for (const auto& item : items) list.push_back(*item.data);
        return value(std::move(list));
    }
    value v;
    v.list = std::make_shared<const std::vector<value>>(std::move(items));
    return v;
}
/// The items of something that a loop or a filter walks over.
std::vector<value> elements(const value& v, const reporter& report) {
    std::vector<value> items;
    if (v.list) return *v.list;
    if (v.undefined()) return items;
    if (!v.data) report.fail("expected something to walk over");
    if (v.data->is_array()) {
        for (const auto& item : *v.data) items.push_back(v.part(item));
    } else if (v.data->is_object()) {
        for (const auto& [key, item] : v.data->items()) items.emplace_back(json(key));
    } else if (v.is_string()) {
        for (const auto character : characters(v.text())) items.emplace_back(json(std::string(character)));
    } else {
        report.fail("expected something to walk over, found " + to_text(v));
    }
    return items;
}

bool contains(const value& whole, const value& part, const reporter& report) {
    if (whole.is_string()) {
        if (!part.is_string()) report.fail("'in' a string: expected a string");
        return whole.text().find(part.text()) != std::string::npos;
    }
    if (whole.is_mapping()) return part.is_string() && whole.data->contains(part.text());
    if (whole.space) return part.is_string() && whole.space->members.contains(part.text());
    const std::vector<value> items = elements(whole, report);
    return std::ranges::any_of(items, [&](const value& item) { return equal(item, part); });
}

const json& data_of(const value& v, const char* where, const reporter& report) {
    if (!v.data)
        report.fail(std::string(where) + ": expected data, found " + (v.undefined() ? "nothing" : "an object"));
    return *v.data;
}
namespace {

const value* argument(const arguments& a, std::size_t place, std::string_view name) {
    if (place < a.positional.size()) return &a.positional[place];
    for (const auto& [key, item] : a.named) {
        if (key == name) return &item;
    }
    return nullptr;
}
std::string text_argument(const arguments& a, std::size_t place, const char* of, const reporter& report) {
    if (place >= a.positional.size() || !a.positional[place].is_string())
        report.fail(std::string(of) + ": expected a string");
    return a.positional[place].text();
}

std::string changed_case(std::string text, bool upper) {
    for (char& c : text) {
        if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
        if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return text;
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to, const reporter& report) {
    if (from.empty()) return text;
    std::string out;
    std::size_t at = 0;
    for (std::size_t found; (found = text.find(from, at)) != std::string::npos; at = found + from.size()) {
        out.append(text, at, found - at).append(to);
        if (out.size() > longest_text) report.fail("a string beyond 64 MiB");
    }
    return out.append(text, at);
}

value pairs(const value& mapping, const reporter& report) {
    if (!mapping.is_mapping()) report.fail("items: expected a mapping");
    json list = json::array();
    for (const auto& [key, item] : mapping.data->items()) list.push_back(json::array({key, item}));
    return value(std::move(list));
}

value string_method(const std::string& name, const std::string& text, const arguments& a, const reporter& report) {
    if (name == "startswith") return value(json(text.starts_with(text_argument(a, 0, "startswith", report))));
    if (name == "endswith") return value(json(text.ends_with(text_argument(a, 0, "endswith", report))));
    if (name == "upper" || name == "lower") return value(json(changed_case(text, name == "upper")));
    if (name == "replace")
        return value(json(
            replaced(text, text_argument(a, 0, "replace", report), text_argument(a, 1, "replace", report), report)));
    if (name == "strip" || name == "lstrip" || name == "rstrip") {
        const bool left = name != "rstrip", right = name != "lstrip";
        if (a.positional.empty()) return value(json(std::string(strip(text, left, right))));
        const std::string set = text_argument(a, 0, "strip", report);
        auto list = characters(text);
        const auto wanted = characters(set);
        const auto drop = [&](std::string_view c) { return std::ranges::find(wanted, c) != wanted.end(); };
        std::size_t begin = 0, end = list.size();
        while (left && begin < end && drop(list[begin])) ++begin;
        while (right && end > begin && drop(list[end - 1])) --end;
        std::string out;
        for (std::size_t i = begin; i < end; ++i) out += list[i];
        return value(json(std::move(out)));
    }
    if (name == "split") {
        json parts = json::array();
        if (a.positional.empty() || a.positional[0].is_none()) {
            std::string_view rest = strip(text, true, true);
            while (!rest.empty()) {
                std::string word;
                for (const auto c : characters(rest)) {
                    if (strip(c, true, true).empty()) break;
                    word += c;
                }
                rest = strip(rest.substr(word.size()), true, false);
                parts.push_back(word);
            }
            return value(std::move(parts));
        }
        const std::string mark = text_argument(a, 0, "split", report);
        if (mark.empty()) report.fail("split: an empty separator");
        const value* limit = argument(a, 1, "maxsplit");
        std::int64_t left =
            limit != nullptr && limit->data && limit->data->is_number_integer() ? limit->data->get<std::int64_t>() : -1;
        std::size_t at = 0;
        for (std::size_t found; left != 0 && (found = text.find(mark, at)) != std::string::npos; --left) {
            parts.push_back(text.substr(at, found - at));
            at = found + mark.size();
        }
        parts.push_back(text.substr(at));
        return value(std::move(parts));
    }
    report.fail("unknown method '" + name + "' of a string");
}

}  // namespace

value apply_filter(const std::string& name, const value& v, const arguments& a, const reporter& report) {
    if (name == "trim") return value(json(std::string(strip(to_text(v), true, true))));
    if (name == "string") return value(json(to_text(v)));
    if (name == "safe") return v;
    if (name == "upper" || name == "lower") return value(json(changed_case(to_text(v), name == "upper")));
    if (name == "items") return pairs(v, report);
    if (name == "tojson") {
        const value* indent = argument(a, 99, "indent");
        const bool pretty = indent != nullptr && indent->data && indent->data->is_number_integer();
        if (v.list) {
            json list = json::array();
            for (const auto& item : *v.list) list.push_back(data_of(item, "tojson", report));
            return value(json(to_json(list)));
        }
        return value(
            json(to_json(data_of(v, "tojson", report), pretty ? std::clamp(indent->data->get<int>(), 0, 16) : -1)));
    }
    if (name == "length" || name == "count") {
        if (v.is_mapping()) return value(json(v.data->size()));
        return value(json(elements(v, report).size()));
    }
    if (name == "default" || name == "d") {
        const value* otherwise = argument(a, 0, "default_value");
        const value* falsy = argument(a, 1, "boolean");
        const bool use = v.undefined() || (falsy != nullptr && is_true(*falsy) && !is_true(v));
        return !use ? v : otherwise != nullptr ? *otherwise : value(json(""));
    }
    if (name == "first" || name == "last") {
        const std::vector<value> items = elements(v, report);
        if (items.empty()) return {};
        return name == "first" ? items.front() : items.back();
    }
    if (name == "list") return make_list(elements(v, report));
    if (name == "reverse") {
        std::vector<value> items = elements(v, report);
        std::ranges::reverse(items);
        return make_list(std::move(items));
    }
    if (name == "join") {
        const value* between = argument(a, 0, "d");
        std::string text;
        bool first = true;
        for (const auto& item : elements(v, report)) {
            if (!std::exchange(first, false) && between != nullptr) text += to_text(*between);
            text += to_text(item);
            if (text.size() > longest_text) report.fail("a string beyond 64 MiB");
        }
        return value(json(std::move(text)));
    }
    if (name == "replace")
        return value(json(replaced(to_text(v), text_argument(a, 0, "replace", report),
                                   text_argument(a, 1, "replace", report), report)));
    if (name == "int") {
        if (v.is_number()) return value(json(static_cast<std::int64_t>(v.data->get<double>())));
        std::int64_t number = 0;
        if (v.is_string()) std::from_chars(v.text().data(), v.text().data() + v.text().size(), number);
        return value(json(number));
    }
    if (name == "abs" && v.is_number())
        return value(json(v.data->is_number_integer() ? json(std::abs(v.data->get<std::int64_t>()))
                                                      : json(std::fabs(v.data->get<double>()))));
    report.fail("unknown filter '" + name + "'");
}

bool apply_test(const std::string& name, const value& v, const arguments& a, const reporter& report) {
    if (name == "defined") return !v.undefined();
    if (name == "undefined") return v.undefined();
    if (name == "none") return v.is_none();
    if (name == "string") return v.is_string();
    if (name == "mapping") return v.is_mapping();
    if (name == "sequence") return v.is_sequence() || v.is_mapping();
    if (name == "iterable") return v.is_sequence() || v.is_mapping();
    if (name == "number") return v.is_number() || (v.data && v.data->is_boolean());
    if (name == "integer") return v.data && v.data->is_number_integer();
    if (name == "float") return v.data && v.data->is_number_float();
    if (name == "boolean") return v.data && v.data->is_boolean();
    if (name == "true") return v.data && v.data->is_boolean() && v.data->get<bool>();
    if (name == "false") return v.data && v.data->is_boolean() && !v.data->get<bool>();
    if (name == "callable") return v.function != nullptr;
    if (name == "odd" || name == "even" || name == "divisibleby") {
        if (!v.data || !v.data->is_number_integer()) report.fail("test " + name + ": expected a whole number");
        std::int64_t by = 2;
        if (name == "divisibleby") {
            if (a.positional.size() != 1 || !a.positional[0].data || !a.positional[0].data->is_number_integer() ||
                a.positional[0].data->get<std::int64_t>() == 0) {
                report.fail("test divisibleby: expected a whole number other than 0");
            }
            by = a.positional[0].data->get<std::int64_t>();
        }
        if (by == -1) return true;
        return (v.data->get<std::int64_t>() % by == 0) != (name == "odd");
    }
    if (name == "eq" || name == "equalto" || name == "ne") {
        if (a.positional.size() != 1) report.fail("test " + name + ": expected one value");
        return equal(v, a.positional[0]) != (name == "ne");
    }
    if (name == "in") {
        if (a.positional.size() != 1) report.fail("test in: expected one value");
        return contains(a.positional[0], v, report);
    }
    report.fail("unknown test '" + name + "'");
}

value call_method(const std::string& name, const value& object, const arguments& a, const reporter& report) {
    if (object.is_string()) return string_method(name, object.text(), a, report);
    if (object.is_mapping()) {
        if (name == "items") return pairs(object, report);
        if (name == "keys" || name == "values") {
            json list = json::array();
            for (const auto& [key, item] : object.data->items()) list.push_back(name == "keys" ? json(key) : item);
            return value(std::move(list));
        }
        if (name == "get") {
            const auto at = object.data->find(text_argument(a, 0, "get", report));
            if (at != object.data->end()) return object.part(*at);
            return a.positional.size() > 1 ? a.positional[1] : value(json(nullptr));
        }
    }
    report.fail((object.undefined() ? "nothing has no method '" : "unknown method '") + name + "'");
}

}  // namespace qwen::jinja
