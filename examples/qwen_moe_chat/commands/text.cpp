// tokenize, detokenize, render: what needs only the tokenizer and the template of a model's folder
#include "qwen_moe_chat/commands/command.hpp"
#include "qwen_moe_chat/conversation.hpp"
#include "qwen_moe_chat/tokenizer.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace qwen {

namespace {

using json = nlohmann::ordered_json;

struct text_options {
    std::filesystem::path model = QWEN_EMBEDDED_MODEL;
    bool skip_special = false;
};

CLI::App* add(CLI::App& app, const char* name, const char* help, const std::shared_ptr<text_options>& options) {
    CLI::App* sub = app.add_subcommand(name, help);
    sub->add_option("--model", options->model, "folder of the checkpoint (default: the embedded model)")
        ->type_name("DIR");
    return sub;
}

[[noreturn]] void fail(std::size_t line, const std::string& problem) {
    hlwq::throw_error<hlwq::format_error>("standard input, line " + std::to_string(line) + ": " + problem);
}

/// Calls f(line, value) for every line of standard input that is not empty; each is one JSON value.
template <class F>
void for_each_line(F&& f) {
    std::string text;
    for (std::size_t line = 1; std::getline(std::cin, text); ++line) {
        if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
        const json value = json::parse(text, nullptr, false);
        if (value.is_discarded()) fail(line, "expected one JSON value, found none");
        f(line, value);
    }
}

void tokenize(const text_options& options) {
    const tokenizer tokens(options.model / "tokenizer.json");
    for_each_line([&](std::size_t line, const json& value) {
        if (!value.is_string()) fail(line, "expected a string, found " + std::string(value.type_name()));
        std::cout << json(tokens.encode(value.get_ref<const std::string&>())).dump() << '\n';
    });
}

void detokenize(const text_options& options) {
    const tokenizer tokens(options.model / "tokenizer.json");
    for_each_line([&](std::size_t line, const json& value) {
        if (!value.is_array()) fail(line, "expected a list of ids, found " + std::string(value.type_name()));
        std::vector<token_id> ids;
        for (const json& id : value) {
            if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= tokens.size()) {
                fail(line, "expected ids below " + std::to_string(tokens.size()) + ", found " + id.dump());
            }
            ids.push_back(id.get<token_id>());
        }
        std::cout << json(tokens.decode(ids, options.skip_special)).dump() << '\n';
    });
}

void render(const text_options& options) {
    const std::string input((std::istreambuf_iterator<char>(std::cin)), {});
    json variables = json::parse(input, nullptr, false);
    if (!variables.is_object() || !variables.contains("messages") || !variables["messages"].is_array()) {
        hlwq::throw_error<hlwq::format_error>("standard input: expected a JSON object with a list 'messages', found " +
                                              std::string(variables.is_discarded() ? "no JSON" : "another"));
    }
    std::cout << chat_format(options.model).render(std::move(variables));
}

}  // namespace

void add_tokenize(CLI::App& app) {
    const auto options = std::make_shared<text_options>();
    add(app, "tokenize", "JSON strings, one a line, to lists of ids", options)->callback([options] {
        tokenize(*options);
    });
}

void add_detokenize(CLI::App& app) {
    const auto options = std::make_shared<text_options>();
    CLI::App* sub = add(app, "detokenize", "lists of ids, one a line, to JSON strings", options);
    sub->add_flag("--skip-special", options->skip_special, "leave special tokens out");
    sub->callback([options] { detokenize(*options); });
}

void add_render(CLI::App& app) {
    const auto options = std::make_shared<text_options>();
    add(app, "render", "a JSON object with messages, tools and template variables to the prompt", options)
        ->callback([options] { render(*options); });
}

}  // namespace qwen
