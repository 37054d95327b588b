#include "qwen_moe_chat/jinja_functions.hpp"

#include "qwen_moe_chat/utf8.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <utility>

namespace qwen::jinja {

value checked(value v, const reporter& report) {
    if (v.levels > most_levels) report.fail("lists and mappings nested deeper than " + std::to_string(most_levels));
    return v;
}

value make_list(std::vector<value> items, const reporter& report) {
    value v;
    if (std::ranges::all_of(items, [](const value& item) { return item.data != nullptr; })) {
        json list = json::array();
        for (const auto& item : items) {
            report.charge(item);
            list.push_back(*item.data);
        }
        return checked(value(std::move(list)), report);
    }
    report.charge(16 * items.size());
    for (const auto& item : items) v.levels = std::max(v.levels, item.levels + 1);
    v.list = std::make_shared<const std::vector<value>>(std::move(items));
    return checked(std::move(v), report);
}

std::string text_of(const value& v, const reporter& report) {
    report.charge(v);
    return to_text(v);
}

std::vector<value> elements(const value& v, const reporter& report) {
    std::vector<value> items;
    if (v.undefined()) return items;
    report.charge(16 * length_of(v, report));
    if (v.list) return *v.list;
    if (v.data->is_array()) {
        for (const auto& item : *v.data) items.push_back(v.part(item));
    } else if (v.data->is_object()) {
        for (auto at = v.data->begin(); at != v.data->end(); ++at) items.emplace_back(json(at.key()));
    } else {
        for (const auto character : characters(v.text())) items.emplace_back(json(std::string(character)));
    }
    return items;
}

std::size_t length_of(const value& v, const reporter& report) {
    if (v.undefined()) return 0;
    if (v.list) return v.list->size();
    if (!v.data || !(v.data->is_structured() || v.is_string())) {
        report.fail("expected something to walk over" + (v.data ? ", found " + to_text(v) : std::string()));
    }
    if (!v.is_string()) return v.data->size();
    report.charge(std::string_view(v.text()));
    return static_cast<std::size_t>(
        std::ranges::count_if(v.text(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

value item_at(const value& v, std::int64_t place, const reporter& report) {
    const std::size_t size = length_of(v, report);
    if (place < 0) place += static_cast<std::int64_t>(size);
    if (place < 0 || static_cast<std::size_t>(place) >= size) return {};
    const auto at = static_cast<std::size_t>(place);
    if (v.list) return (*v.list)[at];
    if (v.data->is_array()) return v.part((*v.data)[at]);
    return elements(v, report)[at];
}

bool contains(const value& whole, const value& part, const reporter& report) {
    if (whole.is_string()) {
        if (!part.is_string()) report.fail("'in' a string: expected a string");
        report.charge(std::string_view(whole.text()));
        report.charge(std::string_view(part.text()));
        return find_text(whole.text(), part.text()) != std::string::npos;
    }
    if (whole.is_mapping()) {
        report.charge(whole.data->size());
        return part.is_string() && whole.data->contains(part.text());
    }
    if (whole.space) return part.is_string() && whole.space->members.contains(part.text());
    const std::vector<value> items = elements(whole, report);
    return std::ranges::any_of(items, [&](const value& item) {
        report.charge(item);
        return equal(item, part);
    });
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
    for (std::size_t found; (found = find_text(text, from, at)) != std::string::npos; at = found + from.size()) {
        out.append(text, at, found - at).append(to);
        if (out.size() > longest_text) report.fail("a string beyond 64 MiB");
    }
    out.append(text, at);
    report.charge(std::string_view(out));
    return out;
}

value pairs(const value& mapping, const reporter& report) {
    if (!mapping.is_mapping()) report.fail("items: expected a mapping");
    report.charge(mapping);
    json list = json::array();
    for (auto at = mapping.data->begin(); at != mapping.data->end(); ++at) {
        list.push_back(json::array({at.key(), *at}));
    }
    return checked(value(std::move(list)), report);
}

value string_method(const std::string& name, const std::string& text, const arguments& a, const reporter& report) {
    report.charge(std::string_view(text));
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
        report.charge(16 * text.size());
        const auto list = characters(text);
        const auto wanted = characters(set);
        const auto drop = [&](std::string_view c) {
            report.charge(wanted.size());
            return std::ranges::find(wanted, c) != wanted.end();
        };
        std::size_t begin = 0, end = list.size();
        while (left && begin < end && drop(list[begin])) ++begin;
        while (right && end > begin && drop(list[end - 1])) --end;
        std::string out;
        for (std::size_t i = begin; i < end; ++i) out += list[i];
        return value(json(std::move(out)));
    }
    if (name == "split") {
        json parts = json::array();
        const auto add = [&](std::string_view part) {
            report.charge(part);
            parts.push_back(std::string(part));
        };
        if (a.positional.empty() || a.positional[0].is_none()) {
            std::string_view rest = strip(text, true, true);
            while (!rest.empty()) {
                std::size_t end = 0;
                while (end < rest.size()) {
                    const auto length = static_cast<std::size_t>(std::abs(character_length(rest.substr(end))));
                    if (strip(rest.substr(end, length), true, false).empty()) break;
                    end += length;
                }
                add(rest.substr(0, end));
                rest = strip(rest.substr(end), true, false);
            }
            return value(std::move(parts));
        }
        const std::string mark = text_argument(a, 0, "split", report);
        if (mark.empty()) report.fail("split: an empty separator");
        const value* limit = argument(a, 1, "maxsplit");
        std::int64_t left =
            limit != nullptr && limit->data && limit->data->is_number_integer() ? limit->data->get<std::int64_t>() : -1;
        std::size_t at = 0;
        for (std::size_t found; left != 0 && (found = find_text(text, mark, at)) != std::string::npos;) {
            add(std::string_view(text).substr(at, found - at));
            at = found + mark.size();
            if (left > 0) --left;
        }
        add(std::string_view(text).substr(at));
        return value(std::move(parts));
    }
    report.fail("unknown method '" + name + "' of a string");
}

}  // namespace

value apply_filter(const std::string& name, const value& v, const arguments& a, const reporter& report) {
    if (name == "trim") return value(json(std::string(strip(text_of(v, report), true, true))));
    if (name == "string") return value(json(text_of(v, report)));
    if (name == "safe") return v;
    if (name == "upper" || name == "lower") return value(json(changed_case(text_of(v, report), name == "upper")));
    if (name == "items") return pairs(v, report);
    if (name == "tojson") {
        const value* indent = argument(a, 99, "indent");
        const bool pretty = indent != nullptr && indent->data && indent->data->is_number_integer();
        report.charge(v);
        if (v.list) {
            json list = json::array();
            for (const auto& item : *v.list) list.push_back(data_of(item, "tojson", report));
            return value(json(to_json(list)));
        }
        const int spaces =
            pretty ? static_cast<int>(std::clamp<std::int64_t>(indent->data->get<std::int64_t>(), 0, 16)) : -1;
        return value(json(to_json(data_of(v, "tojson", report), spaces)));
    }
    if (name == "length" || name == "count") return value(json(length_of(v, report)));
    if (name == "default" || name == "d") {
        const value* otherwise = argument(a, 0, "default_value");
        const value* falsy = argument(a, 1, "boolean");
        const bool use = v.undefined() || (falsy != nullptr && is_true(*falsy) && !is_true(v));
        return !use ? v : otherwise != nullptr ? *otherwise : value(json(""));
    }
    if (name == "first" || name == "last") {
        return item_at(v, name == "first" ? 0 : -1, report);
    }
    if (name == "list") return make_list(elements(v, report), report);
    if (name == "reverse") {
        std::vector<value> items = elements(v, report);
        std::ranges::reverse(items);
        return make_list(std::move(items), report);
    }
    if (name == "join") {
        const value* between = argument(a, 0, "d");
        std::string text;
        bool first = true;
        for (const auto& item : elements(v, report)) {
            if (!std::exchange(first, false) && between != nullptr) text += text_of(*between, report);
            text += text_of(item, report);
            if (text.size() > longest_text) report.fail("a string beyond 64 MiB");
        }
        return value(json(std::move(text)));
    }
    if (name == "replace")
        return value(json(replaced(text_of(v, report), text_argument(a, 0, "replace", report),
                                   text_argument(a, 1, "replace", report), report)));
    if (name == "int") {
        std::int64_t number = 0;
        if (v.data && v.data->is_number_float()) {
            const double fraction = v.data->get<double>();
            if (!(std::fabs(fraction) < 9e18)) report.fail("int: a number beyond 64 bits");
            return value(json(static_cast<std::int64_t>(fraction)));
        }
        if (v.is_number()) return v;
        if (v.data && v.data->is_boolean()) return value(json(v.data->get<bool>() ? 1 : 0));
        if (v.is_string()) std::from_chars(v.text().data(), v.text().data() + v.text().size(), number);
        return value(json(number));
    }
    if (name == "abs" && v.is_number()) {
        if (!v.data->is_number_integer()) return value(json(std::fabs(v.data->get<double>())));
        const auto number = v.data->get<std::int64_t>();
        if (number == std::numeric_limits<std::int64_t>::min()) report.fail("abs: a number beyond 64 bits");
        return value(json(number < 0 ? -number : number));
    }
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
        report.charge(v);
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
            report.charge(object);
            json list = json::array();
            for (auto at = object.data->begin(); at != object.data->end(); ++at) {
                list.push_back(name == "keys" ? json(at.key()) : *at);
            }
            return value(std::move(list));
        }
        if (name == "get") {
            report.charge(object.data->size());
            const auto at = object.data->find(text_argument(a, 0, "get", report));
            if (at != object.data->end()) return object.part(*at);
            return a.positional.size() > 1 ? a.positional[1] : value(json(nullptr));
        }
    }
    report.fail((object.undefined() ? "nothing has no method '" : "unknown method '") + name + "'");
}

}  // namespace qwen::jinja
