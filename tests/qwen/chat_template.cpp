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

std::string render(const std::string& text, const json& variables = json::object()) {
    return qwen::chat_template(text, "t").render(variables);
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
        "64 MiB");
    refuses("{{ range(10000000) }}", "range");
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
