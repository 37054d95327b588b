#include "qwen_moe_chat/chat_template.hpp"

#include "hlwq/io/file.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace {

using json = nlohmann::ordered_json;

const std::filesystem::path data = HLWQ_TEST_DATA;

// A tenth of the work that is allowed, for the sake of instrumented programs.
constexpr std::size_t work = qwen::chat_template::most_work / 10;

std::string render(const std::string& text, const json& variables = json::object()) {
    return qwen::chat_template(text, "t").render(variables, work);
}

void refuses(const std::string& text, const std::string& part, const json& variables = json::object()) {
    try {
        const std::string out = render(text, variables);
        FAIL("rendered: " << out.substr(0, 200));
    } catch (const hlwq::error& error) {
        CHECK_MESSAGE(std::string(error.what()).find(part) != std::string::npos, error.what());
    }
}

}  // namespace

// templates.json: what jinja2 3.1.2 makes of each template, with the settings of Hugging Face (trim_blocks,
// lstrip_blocks, json.dumps without ASCII escapes, loop controls).
TEST_CASE("templates give what jinja2 gives") {
    const auto golden = json::parse(hlwq::io::read_text_file(data / "templates.json"));
    REQUIRE(golden["cases"].size() > 50);
    for (const auto& item : golden["cases"]) {
        const auto text = item["template"].get<std::string>();
        CAPTURE(text);
        if (item.contains("error")) {
            CHECK_THROWS_AS(render(text, golden["context"]), hlwq::error);
        } else {
            CHECK(render(text, golden["context"]) == item["text"].get<std::string>());
        }
    }
}

TEST_CASE("what a template may not do, or is not known, is an error that names the line") {
    refuses("a\n\n{{ x.y }}", "t, line 3: nothing has no attribute 'y'");
    refuses("{% include 'x' %}", "line 1: unknown statement 'include'");
    refuses("\n{{ 1|frob }}", "line 2: unknown filter 'frob'");
    refuses("{{ 1 is frob }}", "unknown test 'frob'");
    refuses("{{ 'a'.frob() }}", "unknown method 'frob'");
    refuses("{{ frob() }}", "no function 'frob'");
    refuses("{% if true %}", "expected 'elif', found the end of the template");
    refuses("{{ 'a }}", "a string is never closed");
    refuses("{{ 1 ", "is never closed");
    refuses("{{ }}", "an expression is missing");
    refuses("{{ 1 / 0 }}", "division by zero");
    refuses("{{ 1 + 'a' }}", "do not go together");
    refuses("{{ 9223372036854775807 + 1 }}", "beyond 64 bits");
    refuses("{{" + std::string(100'000, '(') + "}}", "nesting deeper");
    refuses("{{ '\\q' }}", "unknown escape");
    refuses("a\n{% break %}", "t, line 2: 'break' outside of a loop");
    refuses("{% for a in [1] %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}",
            "'continue' outside of a loop");
    refuses("{% for a in [1] %}{% set loop.index = 2 %}{% endfor %}", "'loop' is no namespace");
    refuses("{{ -9223372036854775807 - 2 }}", "beyond 64 bits");
    refuses("{{ (-9223372036854775807 - 1)|abs }}", "beyond 64 bits");
    refuses("{{ 1e300|int }}", "beyond 64 bits");
    refuses("a\nb\xff", "t, line 2: expected UTF-8, found something else at byte 3");
    refuses(std::string(2 << 20, ' '), "expected at most 1 MiB, found 2097152 bytes");
}

TEST_CASE("a template's own refusal keeps its words") {
    CHECK_THROWS_WITH_AS(render("{{ raise_exception('No messages provided.') }}"), "No messages provided.",
                         qwen::template_error);
}

TEST_CASE("no template runs for ever or without bound") {
    refuses("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "does not come to an end");
    refuses("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested deeper than 100");
    refuses("{{ 'aaaaaaaaaa' * 100000000000 }}", "64 MiB");
    refuses(
        "{% set ns = namespace(a='aaaaaaaaaaaaaaaa') %}{% for i in range(99) %}{% set ns.a = ns.a + ns.a %}{% endfor "
        "%}",
        "does not come to an end");
    refuses("{{ range(10000000) }}", "range");
    const std::string doubling = "{% set ns = namespace(a=[1, {'b': 2}]) %}{% for i in range(99) %}{% set ns.a = ";
    const std::string end = " %}{% endfor %}";
    refuses(doubling + "[ns.a, ns.a]" + end, "does not come to an end");
    refuses(doubling + "{'a': ns.a, 'b': ns.a}" + end, "does not come to an end");
    refuses(doubling + "ns.a + ns.a" + end, "does not come to an end");
    refuses(doubling + "[namespace(), ns.a, ns.a]|string" + end, "does not come to an end");
    refuses("{% for i in range(99) %}{{ ('a' * 10000000).split('a')|length }}{% endfor %}", "does not come to an end");
    refuses("{% for i in range(99) %}{% if 'ab' * 9000000 == 'ab' * 9000000 %}{% endif %}{% endfor %}",
            "does not come to an end");
    CHECK(render("{{ '' * 9000000000000000000 }}").empty());
    CHECK(render("{{ range(9223372036854775800, 9223372036854775807, 5)|length }}") == "2");
    CHECK(render("{{ 'abc'[::9223372036854775807] }}{{ 'abc'[::-9223372036854775807] }}") == "ac");
    CHECK(render("{{ ('a' * 300000 + 'b') in ('a' * 600000) }}") == "False");
}

TEST_CASE("no template nests without bound") {
    const auto repeated = [](std::size_t count, const std::string& text) {
        std::string all;
        for (std::size_t i = 0; i < count; ++i) all += text;
        return all;
    };
    refuses("{{ a" + repeated(10'000, " ~ a") + " }}", "more than 500 steps");
    refuses("{{ a" + repeated(10'000, "|string") + " }}", "more than 500 steps");
    refuses("{{ a" + repeated(10'000, " if a") + " }}", "more than 500 steps");
    refuses("{{ a" + repeated(10'000, " is eq a") + " }}", "nesting deeper than 200");
    refuses("{{ " + repeated(10'000, "not ") + " a }}", "nesting deeper than 200");
    refuses("{{ " + repeated(10'000, "-") + " a }}", "nesting deeper than 200");
    refuses("{% if a %}" + repeated(10'000, "{% elif a %}") + "{% endif %}", "nesting deeper than 200");
    refuses("{% macro m() %}{{ " + repeated(150, "not ") + "m() }}{% endmacro %}{{ m() }}", "nested too deep");
    refuses("{% set ns = namespace(a=1) %}{% for i in range(999) %}{% set ns.a = [ns.a] %}{% endfor %}",
            "nested deeper than 100");
    refuses("{% set ns = namespace(a=1) %}{% for i in range(999) %}{% set ns.a = [ns, ns.a] %}{% endfor %}",
            "nested deeper than 100");
    json deep = json::array();
    for (int i = 0; i < 200; ++i) deep = json::array({deep});
    refuses("{{ a }}", "nested deeper than 100", {{"a", deep}});
    // What holds itself, and long chains, are let go.
    CHECK(render("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns.a.a.a == ns }}") == "True");
    CHECK(
        render("{% set ns = namespace() %}{% for i in range(9999) %}{% set ns.a = namespace(a=ns.a) %}{% endfor %}") ==
        "");
    CHECK(render("{% set ns = namespace(a=[]) %}{% for i in range(9999) %}{% for j in [ns.a] %}{% set ns.a = [loop] %}"
                 "{% endfor %}{% endfor %}") == "");
}

// The model's own template is not part of this repository: its text, of either version, is given by its path.
TEST_CASE("the model's template gives the reference's prompts") {
    const char* path = std::getenv("HLWQ_QWEN_TEMPLATE");
    const char* golden_path = std::getenv("HLWQ_QWEN_TEMPLATE_GOLDEN");
    if (path == nullptr || golden_path == nullptr) {
        MESSAGE("skipped: HLWQ_QWEN_TEMPLATE and HLWQ_QWEN_TEMPLATE_GOLDEN name no files");
        return;
    }
    const qwen::chat_template tested(hlwq::io::read_text_file(path), "model");
    const auto golden = json::parse(hlwq::io::read_text_file(golden_path));
    const char* version = std::filesystem::file_size(path) > 7760 ? "qwen3.6" : "qwen3.5";
    for (const auto& entry : golden[version]["cases"].items()) {
        const std::string name = entry.key();  // clang 14 cannot capture a structured binding
        const json& item = entry.value();
        CAPTURE(name);
        json variables = item.value("kwargs", json::object());
        variables["messages"] = item["messages"];
        if (!variables.contains("add_generation_prompt")) variables["add_generation_prompt"] = true;
        if (item.contains("tools")) variables["tools"] = item["tools"];
        if (item.contains("text")) {
            CHECK(tested.render(variables) == item["text"].get<std::string>());
        } else {
            CHECK_THROWS_AS(tested.render(variables), hlwq::error);
        }
    }
}
