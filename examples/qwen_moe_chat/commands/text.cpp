// tokenize, detokenize, render: what needs only the tokenizer and the template of a model's folder
#include "qwen_moe_chat/commands/command.hpp"
#include "qwen_moe_chat/conversation.hpp"
#include "qwen_moe_chat/tokenizer.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
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

std::string read_standard_input() {
    std::string text((std::istreambuf_iterator<char>(std::cin)), {});
    if (std::cin.bad()) hlwq::throw_error<hlwq::error>("standard input: expected to be read, found an error");
    return text;
}

/// Prints f(line, value) for every line of standard input that is not empty; each is one JSON value. All or nothing.
template <class F>
void convert_lines(F&& f) {
    const std::string input = read_standard_input();
    std::string out;
    std::size_t line = 1;
    for (std::size_t begin = 0, end; begin < input.size(); begin = end + 1, ++line) {
        end = std::min(input.find('\n', begin), input.size());
        const std::string_view text = std::string_view(input).substr(begin, end - begin);
        if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
        std::string found;
        const json value = hlwq::io::parse_json<json>(text, &found);
        if (value.is_discarded()) fail(line, "expected one JSON value, found " + found);
        out += json(f(line, value)).dump() + "\n";
    }
    std::cout << out;
}

void tokenize(const text_options& options) {
    const tokenizer tokens(options.model / "tokenizer.json");
    convert_lines([&](std::size_t line, const json& value) {
        if (!value.is_string()) fail(line, "expected a string, found " + std::string(value.type_name()));
        return tokens.encode(value.get_ref<const std::string&>());
    });
}

void detokenize(const text_options& options) {
    const tokenizer tokens(options.model / "tokenizer.json");
    convert_lines([&](std::size_t line, const json& value) {
        if (!value.is_array()) fail(line, "expected a list of ids, found " + std::string(value.type_name()));
        std::vector<token_id> ids;
        for (const json& id : value) {
            if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= tokens.size()) {
                fail(line, "expected ids below " + std::to_string(tokens.size()) + ", found " +
                               id.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 80));
            }
            ids.push_back(id.get<token_id>());
        }
        return tokens.decode(ids, options.skip_special);
    });
}

void render(const text_options& options) {
    std::string found = "another";
    json variables = hlwq::io::parse_json<json>(read_standard_input(), &found);
    if (!variables.is_object() || !variables.contains("messages") || !variables["messages"].is_array()) {
        hlwq::throw_error<hlwq::format_error>("standard input: expected a JSON object with a list 'messages', found " +
                                              found);
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
