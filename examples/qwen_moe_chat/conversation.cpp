#include "qwen_moe_chat/conversation.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"
#include "hlwq/io/json.hpp"

#include <algorithm>
#include <utility>

namespace qwen {

namespace {

using json = nlohmann::ordered_json;

std::optional<json> read_tokenizer_config(const std::filesystem::path& folder) {
    const auto file = folder / "tokenizer_config.json";
    if (!std::filesystem::exists(file)) return std::nullopt;
    std::string found = "something else";
    json config = hlwq::io::parse_json<json>(hlwq::io::read_text_file(file), &found);
    if (!config.is_object()) {
        hlwq::throw_error<hlwq::format_error>(file.string() + ": expected a JSON object, found " + found);
    }
    return config;
}

chat_template read_template(const std::filesystem::path& folder) {
    const auto file = folder / "chat_template.jinja";
    if (std::filesystem::exists(file)) return chat_template(hlwq::io::read_text_file(file), "chat_template.jinja");
    const auto config = read_tokenizer_config(folder);
    if (!config || !config->contains("chat_template") || !(*config)["chat_template"].is_string()) {
        hlwq::throw_error<hlwq::format_error>(folder.string() +
                                              ": expected chat_template.jinja, or a chat_template in "
                                              "tokenizer_config.json, found neither");
    }
    return chat_template((*config)["chat_template"].get_ref<const std::string&>(),
                         "chat_template of tokenizer_config.json");
}

json read_special_tokens(const std::filesystem::path& folder) {
    json tokens = json::object();
    const auto config = read_tokenizer_config(folder);
    if (!config) return tokens;
    for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
        if (!config->contains(key)) continue;
        const json& token = (*config)[key];
        if (token.is_string()) tokens[key] = token;
        if (token.is_object() && token.contains("content")) tokens[key] = token["content"];
    }
    return tokens;
}

bool is_role(const json& message, const char* role) { return message["role"] == role; }

}  // namespace

chat_format::chat_format(const std::filesystem::path& folder)
    : template_(read_template(folder)), special_tokens_(read_special_tokens(folder)) {}

std::string chat_format::render(json variables) const {
    for (const auto& [key, token] : special_tokens_.items()) {
        if (!variables.contains(key)) variables[key] = token;
    }
    return template_.render(variables);
}

chat_prompt make_prompt(const chat_format& format, const tokenizer& text, json variables) {
    variables["add_generation_prompt"] = false;
    const auto messages = text.encode(format.render(variables));
    variables["add_generation_prompt"] = true;
    const std::string rendered = format.render(std::move(variables));

    chat_prompt prompt;
    prompt.ids = text.encode(rendered);
    if (const token_id* start = text.find("<|im_start|>"); start != nullptr && !prompt.ids.empty()) {
        const auto second = std::find(prompt.ids.begin() + 1, prompt.ids.end(), *start);
        if (second != prompt.ids.end()) {
            prompt.snapshots.push_back(static_cast<std::size_t>(second - prompt.ids.begin()));
        }
    }
    const auto part = std::ranges::mismatch(prompt.ids, messages).in1;
    const auto common = static_cast<std::size_t>(part - prompt.ids.begin());
    if (common != 0 && (prompt.snapshots.empty() || common > prompt.snapshots.back())) {
        prompt.snapshots.push_back(common);
    }
    const std::size_t open = rendered.rfind("<think>");
    prompt.thinking =
        open != std::string::npos && rendered.find("</think>", open) == std::string::npos &&
        rendered.find_first_not_of(" \t\r\n", open + std::string_view("<think>").size()) == std::string::npos;
    return prompt;
}

bool conversation::has_system() const { return !messages_.empty() && is_role(messages_.front(), "system"); }

void conversation::set_system(const std::optional<std::string>& text) {
    if (has_system()) messages_.erase(messages_.begin());
    if (text) messages_.insert(messages_.begin(), json{{"role", "system"}, {"content", *text}});
}

std::optional<std::string> conversation::system() const {
    if (!has_system()) return std::nullopt;
    return messages_.front()["content"].get<std::string>();
}

void conversation::add_user(std::string_view text) { messages_.push_back({{"role", "user"}, {"content", text}}); }

void conversation::add_assistant(std::string_view text, std::string_view thinking) {
    json message = {{"role", "assistant"}, {"content", text}};
    if (!thinking.empty()) message["reasoning_content"] = thinking;
    messages_.push_back(std::move(message));
}

bool conversation::remove_answer() {
    if (messages_.empty() || !is_role(messages_.back(), "assistant")) return false;
    messages_.erase(messages_.end() - 1);
    return true;
}

std::optional<std::string> conversation::remove_turn() {
    auto at = messages_.end();
    while (at != messages_.begin()) {
        if (!is_role(*--at, "user")) continue;
        std::string text = (*at)["content"].get<std::string>();
        messages_.erase(at, messages_.end());
        return text;
    }
    return std::nullopt;
}

void conversation::clear() { messages_.erase(messages_.begin() + (has_system() ? 1 : 0), messages_.end()); }

std::string conversation::to_json() const { return json{{"messages", messages_}}.dump(2) + "\n"; }

conversation conversation::from_json(std::string_view text, const std::string& source) {
    const auto fail = [&](const std::string& problem) {
        hlwq::throw_error<hlwq::format_error>(source + ": expected " + problem);
    };
    std::string found = "another";
    const json parsed = hlwq::io::parse_json<json>(text, &found);
    if (!parsed.is_object() || !parsed.contains("messages") || !parsed["messages"].is_array()) {
        fail("a JSON object with a list 'messages', found " + found);
    }
    conversation result;
    for (const json& message : parsed["messages"]) {
        const std::string where = "in message " + std::to_string(result.messages_.size()) + " ";
        const auto is_text = [&](const char* key) { return message.contains(key) && message[key].is_string(); };
        if (!message.is_object() || !is_text("role") || !is_text("content"))
            fail(where + "'role' and 'content', strings");
        result.messages_.push_back(message);
    }
    return result;
}

}  // namespace qwen
