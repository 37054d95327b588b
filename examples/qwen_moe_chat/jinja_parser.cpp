#include "qwen_moe_chat/jinja_parser.hpp"

#include "qwen_moe_chat/jinja_lexer.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <initializer_list>
#include <utility>

namespace qwen::jinja {

namespace {

constexpr int deepest = 200;
constexpr int tallest = 500;  // of a tree: left-hand sides need no recursion to be read, but to be evaluated

class parser {
  public:
    parser(std::vector<piece> pieces, const std::string& name) : pieces_(std::move(pieces)), name_(name) {}

    statements parse_all() {
        statements list = parse_until({});
        return list;
    }

  private:
    using kind = expression::type;

    // ---- statements

    /// Statements up to one of the closing words, which is left to be read.
    statements parse_until(std::initializer_list<std::string_view> closing) {
        statements list;
        const depth_guard guard(*this);
        for (; piece_ < pieces_.size(); ++piece_) {
            const piece& p = pieces_[piece_];
            if (p.kind == piece::type::text) {
                auto s = std::make_unique<statement>();
                s->text = p.text;
                list.push_back(std::move(s));
                continue;
            }
            begin(p);
            if (p.kind == piece::type::output) {
                auto s = make(statement::type::output);
                s->condition = parse_expression();
                finish();
                list.push_back(std::move(s));
                continue;
            }
            const std::string word = peek().text;
            if (std::ranges::find(closing, word) != closing.end()) return list;
            list.push_back(parse_statement());
        }
        if (closing.size() != 0) {
            fail_at(name_, pieces_.empty() ? 1 : pieces_.back().line,
                    "expected '" + std::string(*closing.begin()) + "', found the end of the template");
        }
        return list;
    }

    std::unique_ptr<statement> parse_statement() {
        const std::string word = name();
        if (word == "set") return parse_set();
        if (word == "if") return parse_if();
        if (word == "for") return parse_for();
        if (word == "macro") return parse_macro();
        if (word == "break" || word == "continue") {
            if (loops_ == 0) fail("'" + word + "' outside of a loop");
            finish();
            return make(word == "break" ? statement::type::stop : statement::type::next);
        }
        if (word == "generation") {
            auto s = make(statement::type::block);
            finish();
            s->body = body({"endgeneration"});
            name();
            finish();
            return s;
        }
        fail("unknown statement '" + word + "'");
    }

    std::unique_ptr<statement> parse_set() {
        auto s = make(statement::type::set);
        s->names.push_back(name());
        if (accept(".")) {
            s->kind = statement::type::set_member;
            s->names.push_back(name());
        }
        while (s->kind == statement::type::set && accept(",")) s->names.push_back(name());
        if (accept("=")) {
            s->condition = parse_expression();
            finish();
            return s;
        }
        if (s->kind == statement::type::set_member || s->names.size() != 1) fail("expected '=' in set");
        finish();
        const int loops = std::exchange(loops_, 0);
        s->body = body({"endset"});
        loops_ = loops;
        name();
        finish();
        return s;
    }

    std::unique_ptr<statement> parse_if() {
        const depth_guard guard(*this);
        auto s = make(statement::type::branch);
        s->condition = parse_expression();
        finish();
        s->body = body({"elif", "else", "endif"});
        const std::string word = name();
        if (word == "elif") {
            s->otherwise.push_back(parse_if());  // reads up to the endif of both
            return s;
        }
        if (word == "else") {
            finish();
            s->otherwise = body({"endif"});
            name();
        }
        finish();
        return s;
    }

    std::unique_ptr<statement> parse_for() {
        auto s = make(statement::type::loop);
        do s->names.push_back(name());
        while (accept(","));
        if (name() != "in") fail("expected 'in'");
        s->condition = parse_or();
        if (accept_name("if")) s->filter = parse_expression();
        if (accept_name("recursive")) fail("recursive loops are not supported");
        finish();
        ++loops_;
        s->body = body({"else", "endfor"});
        --loops_;
        if (name() == "else") {
            finish();
            s->otherwise = body({"endfor"});
            name();
        }
        finish();
        return s;
    }

    std::unique_ptr<statement> parse_macro() {
        auto s = make(statement::type::macro);
        s->text = name();
        expect("(");
        while (!accept(")")) {
            s->names.push_back(name());
            s->defaults.push_back(accept("=") ? parse_expression() : nullptr);
            if (!accept(",")) {
                expect(")");
                break;
            }
        }
        finish();
        const int loops = std::exchange(loops_, 0);
        s->body = body({"endmacro"});
        loops_ = loops;
        name();
        accept_kind(token::type::name);
        finish();
        return s;
    }

    /// The statements of a block: behind this tag, up to the closing one, which becomes the current tag.
    statements body(std::initializer_list<std::string_view> closing) {
        ++piece_;
        return parse_until(closing);
    }

    // ---- expressions, from weak to strong binding

    expression_ptr parse_expression() {
        const depth_guard guard(*this);
        auto left = parse_or();
        while (accept_name("if")) {
            auto e = make(kind::conditional);
            adopt(*e, parse_or());
            adopt(*e, std::move(left));
            adopt(*e, accept_name("else") ? parse_expression() : nullptr);
            left = std::move(e);
        }
        return left;
    }
    expression_ptr parse_or() {
        auto left = parse_and();
        while (accept_name("or")) left = binary("or", std::move(left), parse_and());
        return left;
    }
    expression_ptr parse_and() {
        auto left = parse_not();
        while (accept_name("and")) left = binary("and", std::move(left), parse_not());
        return left;
    }
    expression_ptr parse_not() {
        const depth_guard guard(*this);
        if (!accept_name("not")) return parse_comparison();
        auto e = make(kind::unary);
        e->text = "not";
        adopt(*e, parse_not());
        return e;
    }
    expression_ptr parse_comparison() {
        auto left = parse_sum();
        expression_ptr chain;
        for (;;) {
            std::string op;
            if (peek().kind == token::type::symbol &&
                (peek().text == "==" || peek().text == "!=" || peek().text == "<" || peek().text == "<=" ||
                 peek().text == ">" || peek().text == ">=")) {
                op = next().text;
            } else if (accept_name("in")) {
                op = "in";
            } else if (peek().text == "not" && peek(1).text == "in") {
                next();
                next();
                op = "not in";
            } else {
                return chain ? std::move(chain) : std::move(left);
            }
            if (chain) fail("chained comparisons are not supported");
            chain = binary(op, std::move(left), parse_sum());
        }
    }
    expression_ptr parse_sum() {
        auto left = parse_join();
        while (peek().kind == token::type::symbol && (peek().text == "+" || peek().text == "-")) {
            const std::string op = next().text;
            left = binary(op, std::move(left), parse_join());
        }
        return left;
    }
    expression_ptr parse_join() {
        auto left = parse_product();
        while (accept("~")) left = binary("~", std::move(left), parse_product());
        return left;
    }
    expression_ptr parse_product() {
        auto left = parse_unary();
        while (peek().kind == token::type::symbol &&
               (peek().text == "*" || peek().text == "/" || peek().text == "//" || peek().text == "%")) {
            const std::string op = next().text;
            left = binary(op, std::move(left), parse_unary());
        }
        return left;
    }
    expression_ptr parse_unary() {
        const depth_guard guard(*this);
        if (peek().kind == token::type::symbol && (peek().text == "-" || peek().text == "+")) {
            auto e = make(kind::unary);
            e->text = next().text;
            adopt(*e, parse_unary());
            return e;
        }
        return parse_postfix(parse_primary());
    }

    expression_ptr parse_primary() {
        const token t = next();
        if (t.kind == token::type::string) {
            std::string text = t.text;
            while (peek().kind == token::type::string) text += next().text;  // as in Python
            return literal(json(text));
        }
        if (t.kind == token::type::number) return literal(number(t));
        if (t.kind == token::type::name) {
            if (t.text == "true" || t.text == "True") return literal(json(true));
            if (t.text == "false" || t.text == "False") return literal(json(false));
            if (t.text == "none" || t.text == "None") return literal(json(nullptr));
            auto e = make(kind::name);
            e->text = t.text;
            return e;
        }
        if (t.text == "(") {
            auto e = parse_expression();
            if (peek().text == ",") {
                auto list = make(kind::list);
                adopt(*list, std::move(e));
                while (accept(",") && peek().text != ")") adopt(*list, parse_expression());
                e = std::move(list);
            }
            expect(")");
            return e;
        }
        if (t.text == "[") {
            auto e = make(kind::list);
            while (!accept("]")) {
                adopt(*e, parse_expression());
                if (!accept(",")) {
                    expect("]");
                    break;
                }
            }
            return e;
        }
        if (t.text == "{") {
            auto e = make(kind::mapping);
            while (!accept("}")) {
                adopt(*e, parse_expression());
                expect(":");
                adopt(*e, parse_expression());
                if (!accept(",")) {
                    expect("}");
                    break;
                }
            }
            return e;
        }
        fail(t.kind == token::type::end ? "an expression is missing" : "unexpected '" + t.text + "'");
    }

    expression_ptr parse_postfix(expression_ptr left) {
        const depth_guard guard(*this);
        for (;;) {
            if (accept(".")) {
                auto e = make(kind::attribute);
                if (peek().kind == token::type::number) {
                    e->kind = kind::index;
                    adopt(*e, std::move(left));
                    adopt(*e, literal(number(next())));
                } else {
                    e->text = name();
                    adopt(*e, std::move(left));
                }
                left = std::move(e);
            } else if (accept("[")) {
                left = parse_subscript(std::move(left));
            } else if (accept("(")) {
                auto e = make(kind::call);
                adopt(*e, std::move(left));
                parse_arguments(*e);
                left = std::move(e);
            } else if (accept("|")) {
                auto e = make(kind::filter);
                e->text = name();
                adopt(*e, std::move(left));
                if (accept("(")) parse_arguments(*e);
                left = std::move(e);
            } else if (accept_name("is")) {
                auto e = make(kind::test);
                e->negated = accept_name("not");
                e->text = name();
                adopt(*e, std::move(left));
                if (accept("(")) {
                    parse_arguments(*e);
                } else if (starts_operand()) {
                    adopt(*e, parse_postfix(parse_primary()));
                }
                left = std::move(e);
            } else {
                return left;
            }
        }
    }
    /// `x is divisibleby 3`: a test may take one operand without parentheses.
    bool starts_operand() const {
        const token& t = peek();
        if (t.kind == token::type::name) {
            return t.text != "else" && t.text != "and" && t.text != "or" && t.text != "is" && t.text != "if" &&
                   t.text != "in" && t.text != "not" && t.text != "recursive";
        }
        return t.kind == token::type::string || t.kind == token::type::number || t.text == "[" || t.text == "{";
    }

    expression_ptr parse_subscript(expression_ptr left) {
        auto e = make(kind::slice);
        adopt(*e, std::move(left));
        bool is_slice = false;
        while (e->parts.size() < 4) {
            const bool absent = peek().text == ":" || peek().text == "]";
            adopt(*e, absent && peek().kind == token::type::symbol ? nullptr : parse_expression());
            if (!accept(":")) break;
            is_slice = true;
        }
        expect("]");
        if (!is_slice) {
            e->kind = kind::index;
            if (!e->parts[1]) fail("an index is missing");
        } else {
            while (e->parts.size() < 4) adopt(*e, nullptr);
        }
        return e;
    }

    void parse_arguments(expression& e) {
        while (!accept(")")) {
            if (peek().kind == token::type::name && peek(1).kind == token::type::symbol && peek(1).text == "=") {
                std::string key = name();
                next();
                auto argument = parse_expression();
                grow(e, argument.get());
                e.named.emplace_back(std::move(key), std::move(argument));
            } else {
                adopt(e, parse_expression());
            }
            if (!accept(",")) {
                expect(")");
                break;
            }
        }
    }

    // ---- helpers

    struct depth_guard {
        explicit depth_guard(parser& p) : owner(p) {
            if (++owner.depth_ > deepest) owner.fail("nesting deeper than 200");
        }
        ~depth_guard() { --owner.depth_; }
        depth_guard(const depth_guard&) = delete;
        depth_guard& operator=(const depth_guard&) = delete;
        parser& owner;
    };

    json number(const token& t) {
        const char *first = t.text.data(), *last = first + t.text.size();
        std::int64_t whole = 0;
        if (const auto r = std::from_chars(first, last, whole); r.ec == std::errc() && r.ptr == last)
            return json(whole);
        double fraction = 0;
        if (const auto r = std::from_chars(first, last, fraction); r.ec == std::errc() && r.ptr == last) {
            return json(fraction);
        }
        fail("no number: '" + t.text + "'");
    }
    void grow(expression& e, const expression* part) {
        if (part != nullptr) e.height = std::max(e.height, part->height + 1);
        if (e.height > tallest) fail("an expression of more than " + std::to_string(tallest) + " steps");
    }
    void adopt(expression& e, expression_ptr part) {
        grow(e, part.get());
        e.parts.push_back(std::move(part));
    }
    std::unique_ptr<expression> make(expression::type what) {
        auto e = std::make_unique<expression>();
        e->kind = what;
        e->line = peek().line;
        return e;
    }
    std::unique_ptr<statement> make(statement::type what) {
        auto s = std::make_unique<statement>();
        s->kind = what;
        s->line = pieces_[piece_].line;
        return s;
    }
    expression_ptr literal(json v) {
        auto e = make(kind::literal);
        e->constant = value(std::move(v));
        return e;
    }
    expression_ptr binary(const std::string& op, expression_ptr left, expression_ptr right) {
        auto e = make(kind::binary);
        e->text = op;
        adopt(*e, std::move(left));
        adopt(*e, std::move(right));
        return e;
    }
    void begin(const piece& p) {
        tokens_ = &p.tokens;
        token_ = 0;
    }
    const token& peek(std::size_t ahead = 0) const { return (*tokens_)[std::min(token_ + ahead, tokens_->size() - 1)]; }
    token next() {
        token t = peek();
        if (token_ + 1 < tokens_->size()) ++token_;
        return t;
    }
    bool accept(std::string_view symbol) {
        if (peek().kind != token::type::symbol || peek().text != symbol) return false;
        next();
        return true;
    }
    bool accept_name(std::string_view word) {
        if (peek().kind != token::type::name || peek().text != word) return false;
        next();
        return true;
    }
    bool accept_kind(token::type what) {
        if (peek().kind != what) return false;
        next();
        return true;
    }
    void expect(std::string_view symbol) {
        if (!accept(symbol)) fail("expected '" + std::string(symbol) + "', found " + found());
    }
    std::string name() {
        if (peek().kind != token::type::name) fail("expected a name, found " + found());
        return next().text;
    }
    std::string found() const {
        return peek().kind == token::type::end ? "the end of the tag" : "'" + peek().text + "'";
    }
    void finish() {
        if (peek().kind != token::type::end) fail("expected the end of the tag, found " + found());
    }
    [[noreturn]] void fail(const std::string& problem) const { fail_at(name_, peek().line, problem); }

    std::vector<piece> pieces_;
    const std::string& name_;
    std::size_t piece_ = 0;
    const std::vector<token>* tokens_ = nullptr;
    std::size_t token_ = 0;
    int depth_ = 0;
    int loops_ = 0;  // around the current place
};

}  // namespace

statements parse(std::string_view source, const std::string& name) {
    return parser(cut_template(source, name), name).parse_all();
}

}  // namespace qwen::jinja
