#include "qwen_moe_chat/chat_template.hpp"

#include "qwen_moe_chat/jinja_functions.hpp"
#include "qwen_moe_chat/jinja_parser.hpp"
#include "qwen_moe_chat/jinja_value.hpp"
#include "qwen_moe_chat/utf8.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <utility>
#include <vector>

namespace qwen {

using namespace jinja;

struct chat_template::body {
    std::string name;
    statements parsed;
};

namespace {

using kind = expression::type;

constexpr std::size_t step_work = 32;
constexpr int deepest_call = 100;
constexpr int deepest_evaluation = 1000;  // a kilobyte of stack each, several of an instrumented program
constexpr std::size_t longest_source = std::size_t{1} << 20;

/// Variables of one scope; inner ones hide outer ones.
struct scope {
    std::map<std::string, value, std::less<>> variables;
    const scope* outer = nullptr;
    const value* find(std::string_view name) const {
        for (const scope* s = this; s != nullptr; s = s->outer) {
            if (const auto at = s->variables.find(name); at != s->variables.end()) return &at->second;
        }
        return nullptr;
    }
};

/// One rendering.
class evaluator {
  public:
    evaluator(const reporter& report, const value& variables) : report_(report) {
        for (const auto& [key, item] : variables.data->items()) globals_.variables[key] = variables.part(item);
        globals_.variables["raise_exception"] = callable([](const arguments& a) -> value {
            hlwq::throw_error<template_error>(a.positional.empty() ? std::string() : to_text(a.positional[0]));
        });
        globals_.variables["namespace"] = callable([this](const arguments& a) {
            value v;
            v.space = std::make_shared<mutable_namespace>();
            spaces_.push_back(v.space);
            for (const auto& [key, item] : a.named) v.space->members[key] = item;
            for (const auto& item : a.positional) {
                if (!item.is_mapping()) fail("namespace: expected a mapping");
                report_.charge(item);
                for (const auto& [key, inner] : item.data->items()) v.space->members[key] = item.part(inner);
            }
            return v;
        });
        globals_.variables["range"] = callable([this](const arguments& a) { return range(a); });
    }

    evaluator(const evaluator&) = delete;
    evaluator& operator=(const evaluator&) = delete;
    /// Namespaces may hold each other, and themselves.
    ~evaluator() {
        for (const auto& space : spaces_) space->members.clear();
    }

    std::string run(const statements& list) {
        std::string out;
        execute(list, globals_, out);
        return out;
    }

  private:
    enum class flow : std::uint8_t { on, stop, next };

    static value callable(std::function<value(const arguments&)> f) {
        value v;
        v.function = std::make_shared<const std::function<value(const arguments&)>>(std::move(f));
        return v;
    }
    [[noreturn]] void fail(const std::string& problem) const { report_.fail(problem); }
    void step(int line) {
        if (line != 0) report_.line = line;
        report_.charge(step_work);
    }
    void append(const std::string& text, std::string& out) const {
        report_.charge(std::string_view(text));
        out += text;
        if (out.size() > longest_text) fail("more than 64 MiB of text");
    }

    /// Counts the evaluations that have begun and not ended, which all take stack.
    class level {
      public:
        explicit level(evaluator& e) : count_(e.level_) {
            if (++count_ > deepest_evaluation) e.fail("expressions and macro calls nested too deep");
        }
        ~level() { --count_; }
        level(const level&) = delete;
        level& operator=(const level&) = delete;

      private:
        int& count_;
    };

    // ---- statements

    flow execute(const statements& list, scope& here, std::string& out) {
        const level guard(*this);
        for (const auto& s : list) {
            step(s->line);
            const flow f = execute(*s, here, out);
            if (f != flow::on) return f;
        }
        return flow::on;
    }

    flow execute(const statement& s, scope& here, std::string& out) {
        using type = statement::type;
        switch (s.kind) {
            case type::text: append(s.text, out); return flow::on;
            case type::output: append(text_of(evaluate(*s.condition, here), report_), out); return flow::on;
            case type::set: assign(s, here); return flow::on;
            case type::set_member: {
                const value* target = here.find(s.names[0]);
                if (target == nullptr || !target->space || target->space->is_loop) {
                    fail("'" + s.names[0] + "' is no namespace");
                }
                target->space->members[s.names[1]] = evaluate(*s.condition, here);
                return flow::on;
            }
            case type::branch: return execute(is_true(evaluate(*s.condition, here)) ? s.body : s.otherwise, here, out);
            case type::loop: return loop(s, here, out);
            case type::macro: define(s, here); return flow::on;
            case type::stop: return flow::stop;
            case type::next: return flow::next;
            case type::block: return execute(s.body, here, out);
        }
        return flow::on;
    }

    void assign(const statement& s, scope& here) {
        if (!s.condition) {
            std::string text;
            execute(s.body, here, text);
            here.variables[s.names[0]] = value(json(std::move(text)));
        } else {
            bind(s.names, evaluate(*s.condition, here), here);
        }
    }

    void bind(const std::vector<std::string>& names, const value& v, scope& here) {
        if (names.size() == 1) {
            here.variables[names[0]] = v;
            return;
        }
        const std::vector<value> items = elements(v, report_);
        if (items.size() != names.size()) {
            fail("expected " + std::to_string(names.size()) + " values, found " + std::to_string(items.size()));
        }
        for (std::size_t i = 0; i < names.size(); ++i) here.variables[names[i]] = items[i];
    }

    flow loop(const statement& s, const scope& outer, std::string& out) {
        std::vector<value> items = elements(evaluate(*s.condition, outer), report_);
        if (s.filter) {
            std::erase_if(items, [&](const value& item) {
                step(s.line);
                scope inner{{}, &outer};
                bind(s.names, item, inner);
                return !is_true(evaluate(*s.filter, inner));
            });
        }
        for (std::size_t i = 0; i < items.size(); ++i) {
            step(s.line);
            scope inner{{}, &outer};
            bind(s.names, items[i], inner);
            const value position = loop_variable(items, i);
            inner.variables["loop"] = position;
            const flow f = execute(s.body, inner, out);
            if (position.space.use_count() > 2) spaces_.push_back(position.space);  // it is held elsewhere, too
            if (f == flow::stop) break;
        }
        if (!items.empty()) return flow::on;
        scope inner{{}, &outer};
        return execute(s.otherwise, inner, out);
    }

    static value loop_variable(const std::vector<value>& items, std::size_t i) {
        value v;
        v.space = std::make_shared<mutable_namespace>();
        v.space->is_loop = true;
        auto& m = v.space->members;
        m["index0"] = value(json(i));
        m["index"] = value(json(i + 1));
        m["revindex0"] = value(json(items.size() - i - 1));
        m["revindex"] = value(json(items.size() - i));
        m["first"] = value(json(i == 0));
        m["last"] = value(json(i + 1 == items.size()));
        m["length"] = value(json(items.size()));
        m["previtem"] = i == 0 ? value() : items[i - 1];
        m["nextitem"] = i + 1 == items.size() ? value() : items[i + 1];
        return v;
    }

    void define(const statement& s, scope& here) {
        here.variables[s.text] = callable([this, &s](const arguments& a) {
            if (++calls_ > deepest_call) fail("macro calls nested deeper than 100");
            scope inner{{}, &globals_};
            if (a.positional.size() > s.names.size()) fail("macro " + s.text + ": too many arguments");
            for (const auto& [key, item] : a.named) {
                if (std::ranges::find(s.names, key) == s.names.end()) {
                    fail("macro " + s.text + ": no parameter '" + key + "'");
                }
                inner.variables[key] = item;
            }
            for (std::size_t i = 0; i < s.names.size(); ++i) {
                if (i < a.positional.size()) {
                    inner.variables[s.names[i]] = a.positional[i];
                } else if (!inner.variables.contains(s.names[i])) {
                    inner.variables[s.names[i]] = s.defaults[i] ? evaluate(*s.defaults[i], inner) : value();
                }
            }
            std::string text;
            execute(s.body, inner, text);
            --calls_;
            return value(json(std::move(text)));
        });
    }

    // ---- expressions

    value evaluate(const expression& e, const scope& here) {
        const level guard(*this);
        step(e.line);
        switch (e.kind) {
            case kind::literal: return e.constant;
            case kind::name: {
                const value* found = here.find(e.text);
                return found != nullptr ? *found : value();
            }
            case kind::list: {
                std::vector<value> items;
                for (const auto& part : e.parts) items.push_back(evaluate(*part, here));
                return make_list(std::move(items), report_);
            }
            case kind::mapping: {
                json object = json::object();
                for (std::size_t i = 0; i < e.parts.size(); i += 2) {
                    const std::string key = text_of(evaluate(*e.parts[i], here), report_);
                    const value item = evaluate(*e.parts[i + 1], here);
                    report_.charge(object.size());
                    report_.charge(item);
                    object[key] = data_of(item, "a mapping", report_);
                }
                return checked(value(std::move(object)), report_);
            }
            case kind::attribute: return attribute(evaluate(*e.parts[0], here), e.text);
            case kind::index: return subscript(evaluate(*e.parts[0], here), evaluate(*e.parts[1], here));
            case kind::slice: return slice(e, here);
            case kind::call: return call(e, here);
            case kind::filter: {
                const value input = evaluate(*e.parts[0], here);
                return apply_filter(e.text, input, arguments_of(e, here), report_);
            }
            case kind::test: {
                const value input = evaluate(*e.parts[0], here);
                return value(json(apply_test(e.text, input, arguments_of(e, here), report_) != e.negated));
            }
            case kind::unary: return unary(e, here);
            case kind::binary: return binary(e, here);
            case kind::conditional:
                if (is_true(evaluate(*e.parts[0], here))) return evaluate(*e.parts[1], here);
                return e.parts[2] ? evaluate(*e.parts[2], here) : value();
        }
        return {};
    }

    arguments arguments_of(const expression& e, const scope& here) {
        arguments a;
        for (std::size_t i = 1; i < e.parts.size(); ++i) a.positional.push_back(evaluate(*e.parts[i], here));
        for (const auto& [key, part] : e.named) a.named.emplace_back(key, evaluate(*part, here));
        return a;
    }

    value attribute(const value& v, const std::string& key) const {
        if (v.undefined()) fail("nothing has no attribute '" + key + "'");
        if (v.space) {
            const auto at = v.space->members.find(key);
            return at == v.space->members.end() ? value() : at->second;
        }
        if (v.is_mapping()) {
            report_.charge(v.data->size());
            const auto at = v.data->find(key);
            if (at != v.data->end()) return v.part(*at);
        }
        return {};
    }

    value subscript(const value& v, const value& key) const {
        if (v.undefined()) fail("nothing has no items");
        if (key.is_string()) return attribute(v, key.text());
        if (!key.data || !key.data->is_number_integer()) fail("expected a whole number or a string as index");
        return v.is_sequence() ? item_at(v, key.data->get<std::int64_t>(), report_) : value();
    }

    value slice(const expression& e, const scope& here) {
        const value v = evaluate(*e.parts[0], here);
        if (!v.is_sequence()) fail("expected a list or a string to slice");
        const auto bound = [&](std::size_t part, std::int64_t otherwise) {
            if (!e.parts[part]) return otherwise;
            const value b = evaluate(*e.parts[part], here);
            if (b.is_none()) return otherwise;
            if (!b.data || !b.data->is_number_integer()) fail("expected whole numbers in a slice");
            return b.data->get<std::int64_t>();
        };
        const std::vector<value> items = elements(v, report_);
        const auto size = static_cast<std::int64_t>(items.size());
        const std::int64_t stride = bound(3, 1);
        if (stride == 0) fail("a slice with step 0");
        constexpr std::int64_t open = std::numeric_limits<std::int64_t>::min();
        const auto place = [&](std::int64_t at, std::int64_t otherwise) {
            if (at == open) return otherwise;
            if (at < 0) at += size;
            return std::clamp<std::int64_t>(at, stride > 0 ? 0 : -1, stride > 0 ? size : size - 1);
        };
        const std::int64_t begin = place(bound(1, open), stride > 0 ? 0 : size - 1);
        const std::int64_t end = place(bound(2, open), stride > 0 ? size : -1);
        std::vector<value> part;
        for (std::int64_t i = begin; stride > 0 ? i < end : i > end;) {
            part.push_back(items[static_cast<std::size_t>(i)]);
            if (__builtin_add_overflow(i, stride, &i)) break;
        }
        if (!v.is_string()) return make_list(std::move(part), report_);
        std::string text;
        for (const auto& item : part) text += item.text();
        return value(json(std::move(text)));
    }

    value call(const expression& e, const scope& here) {
        const expression& callee = *e.parts[0];
        if (callee.kind == kind::attribute) {
            const value object = evaluate(*callee.parts[0], here);
            const value member = object.space ? attribute(object, callee.text) : value();
            if (!member.function) return call_method(callee.text, object, arguments_of(e, here), report_);
            return (*member.function)(arguments_of(e, here));
        }
        const value f = evaluate(callee, here);
        if (!f.function)
            fail(callee.kind == kind::name ? "no function '" + callee.text + "'" : "this cannot be called");
        return (*f.function)(arguments_of(e, here));
    }

    value unary(const expression& e, const scope& here) {
        const value v = evaluate(*e.parts[0], here);
        if (e.text == "not") return value(json(!is_true(v)));
        if (!v.is_number()) fail("expected a number behind '" + e.text + "'");
        if (e.text == "+") return v;
        return v.data->is_number_float() ? value(json(-v.data->get<double>())) : arithmetic("-", json(0), *v.data);
    }

    value binary(const expression& e, const scope& here) {
        const std::string& op = e.text;
        const value a = evaluate(*e.parts[0], here);
        if (op == "and") return is_true(a) ? evaluate(*e.parts[1], here) : a;
        if (op == "or") return is_true(a) ? a : evaluate(*e.parts[1], here);
        const value b = evaluate(*e.parts[1], here);
        if (op == "==" || op == "!=") {
            report_.charge(a);
            return value(json(equal(a, b) == (op == "==")));
        }
        if (op == "in") return value(json(contains(b, a, report_)));
        if (op == "not in") return value(json(!contains(b, a, report_)));
        if (op == "~") return joined(text_of(a, report_), text_of(b, report_));
        if (a.is_string() && b.is_string()) {
            if (op == "+") return joined(a.text(), b.text());
            if (op == "<") return value(json(a.text() < b.text()));
            if (op == "<=") return value(json(a.text() <= b.text()));
            if (op == ">") return value(json(a.text() > b.text()));
            if (op == ">=") return value(json(a.text() >= b.text()));
        }
        if (op == "+" && a.is_sequence() && b.is_sequence() && !a.is_string() && !b.is_string()) {
            std::vector<value> items = elements(a, report_);
            for (auto& item : elements(b, report_)) items.push_back(std::move(item));
            return make_list(std::move(items), report_);
        }
        if (op == "*" && a.is_string() && b.data && b.data->is_number_integer()) {
            const auto times = b.data->get<std::int64_t>();
            if (times <= 0 || a.text().empty()) return value(json(""));
            if (a.text().size() > longest_text / static_cast<std::uint64_t>(times)) fail("a string beyond 64 MiB");
            std::string text;
            for (std::int64_t i = 0; i < times; ++i) text += a.text();
            report_.charge(std::string_view(text));
            return value(json(std::move(text)));
        }
        return arithmetic(op, number(a, op), number(b, op));
    }

    value joined(const std::string& a, const std::string& b) const {
        if (a.size() + b.size() > longest_text) fail("a string beyond 64 MiB");
        report_.charge(std::string_view(a));
        report_.charge(std::string_view(b));
        return value(json(a + b));
    }

    json number(const value& v, const std::string& op) const {
        if (v.data && v.data->is_boolean()) return json(v.data->get<bool>() ? 1 : 0);
        if (!v.is_number()) {
            fail("'" + op + "' between values that do not go together (" +
                 (v.undefined() ? std::string("one is undefined") : "one is " + to_text(v).substr(0, 60)) + ")");
        }
        return *v.data;
    }

    value arithmetic(const std::string& op, const json& a, const json& b) const {
        const double x = a.get<double>(), y = b.get<double>();
        if (op == "<") return value(json(x < y));
        if (op == "<=") return value(json(x <= y));
        if (op == ">") return value(json(x > y));
        if (op == ">=") return value(json(x >= y));
        if ((op == "/" || op == "//" || op == "%") && y == 0.0) fail("division by zero");
        if (op == "/") return value(json(x / y));
        if (a.is_number_integer() && b.is_number_integer()) {
            const auto p = a.get<std::int64_t>(), q = b.get<std::int64_t>();
            std::int64_t r = 0;
            bool overflow = false;
            if (op == "+") overflow = __builtin_add_overflow(p, q, &r);
            if (op == "-") overflow = __builtin_sub_overflow(p, q, &r);
            if (op == "*") overflow = __builtin_mul_overflow(p, q, &r);
            if (op == "//" || op == "%") {
                if (q == -1) {
                    overflow = op == "//" && __builtin_sub_overflow(std::int64_t{0}, p, &r);
                } else {
                    // Python rounds towards minus infinity.
                    const std::int64_t rest = p % q, fix = rest != 0 && (rest < 0) != (q < 0) ? 1 : 0;
                    r = op == "//" ? p / q - fix : rest + fix * q;
                }
            }
            if (overflow) fail("a number beyond 64 bits");
            return value(json(r));
        }
        if (op == "+") return value(json(x + y));
        if (op == "-") return value(json(x - y));
        if (op == "*") return value(json(x * y));
        const double quotient = std::floor(x / y);
        return value(json(op == "//" ? quotient : x - quotient * y));
    }

    value range(const arguments& a) const {
        std::int64_t bounds[3] = {0, 0, 1};
        const std::size_t count = a.positional.size();
        if (count < 1 || count > 3) fail("range: expected 1 to 3 numbers");
        for (std::size_t i = 0; i < count; ++i) {
            const value& v = a.positional[i];
            if (!v.data || !v.data->is_number_integer()) fail("range: expected whole numbers");
            bounds[count == 1 ? 1 : i] = v.data->get<std::int64_t>();
        }
        if (bounds[2] == 0) fail("range: a step of 0");
        json list = json::array();
        for (std::int64_t i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1];) {
            if (list.size() >= 100'000) fail("range: more than 100,000 numbers");
            report_.charge(step_work);
            list.push_back(i);
            if (__builtin_add_overflow(i, bounds[2], &i)) break;
        }
        return value(std::move(list));
    }

    reporter report_;
    scope globals_;
    std::vector<std::shared_ptr<mutable_namespace>> spaces_;
    int level_ = 0;
    int calls_ = 0;
};

}  // namespace

chat_template::chat_template(std::string_view source, std::string name) {
    auto made = std::make_unique<body>();
    made->name = std::move(name);
    if (source.size() > longest_source) {
        fail_at(made->name, 1, "expected at most 1 MiB, found " + std::to_string(source.size()) + " bytes");
    }
    if (const std::size_t bad = find_invalid_utf8(source); bad != source.npos) {
        const auto line = 1 + std::count(source.begin(), source.begin() + static_cast<std::ptrdiff_t>(bad), '\n');
        fail_at(made->name, static_cast<int>(line),
                "expected UTF-8, found something else at byte " + std::to_string(bad));
    }
    made->parsed = parse(source, made->name);
    body_ = std::move(made);
}
chat_template::chat_template(chat_template&&) noexcept = default;
chat_template& chat_template::operator=(chat_template&&) noexcept = default;
chat_template::~chat_template() = default;

std::string chat_template::render(const nlohmann::ordered_json& variables, std::size_t work) const {
    if (!variables.is_object())
        hlwq::throw_error<hlwq::format_error>(body_->name + ": expected an object of variables");
    const reporter report{body_->name, 1, work};
    const value data = checked(value(variables), report);
    return evaluator(report, data).run(body_->parsed);
}

}  // namespace qwen
