// qwen_moe_chat/conversation.hpp — messages to the tokens of a prompt
//
// A chat_format is what a model's folder says about conversations: its template, and the special tokens that templates
// may name. It makes a prompt of any messages that the template accepts. A conversation is a list of such messages that
// a person and a model add to in turn.
//
//   throws   format_error for folders without a template; what the template refuses is a template_error
#pragma once

#include "qwen_moe_chat/chat_template.hpp"
#include "qwen_moe_chat/tokenizer.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qwen {

class chat_format {
  public:
    /// The template chat_template.jinja of a folder, else the one in tokenizer_config.json.
    explicit chat_format(const std::filesystem::path& folder);
    explicit chat_format(std::string_view source) : template_(source) {}

    /// The text for these variables; those of tokenizer_config.json (bos_token and the like) are added.
    std::string render(nlohmann::ordered_json variables) const;

  private:
    chat_template template_;
    nlohmann::ordered_json special_tokens_ = nlohmann::ordered_json::object();
};

/// A prompt that asks for the next answer.
struct chat_prompt {
    std::vector<token_id> ids;
    /// Where a later prompt of the same conversation, or another one with the same instructions, is likely to part from
    /// this one: behind the first message, and behind the last. Lengths, ascending.
    std::vector<std::size_t> snapshots;
    bool thinking = false;  // the prompt ends inside <think>: the answer begins with thinking
};

/// `variables`: messages, and whatever else the template reads (tools, enable_thinking).
chat_prompt make_prompt(const chat_format& format, const tokenizer& text, nlohmann::ordered_json variables);

class conversation {
  public:
    const nlohmann::ordered_json& messages() const noexcept { return messages_; }
    bool empty() const noexcept { return messages_.empty(); }
    /// Messages but the system message.
    std::size_t turns() const noexcept { return messages_.size() - (has_system() ? 1 : 0); }

    /// Sets the system message; nothing removes it.
    void set_system(const std::optional<std::string>& text);
    std::optional<std::string> system() const;

    void add_user(std::string_view text);
    /// An answer, complete or not; thinking is kept beside it, for the template to use or to leave out.
    void add_assistant(std::string_view text, std::string_view thinking);
    /// Removes the last answer, if the last message is one.
    bool remove_answer();
    /// Removes the last message of the user and what follows; returns it.
    std::optional<std::string> remove_turn();
    /// Removes all but the system message.
    void clear();

    /// {"messages": [...]}, as `render` reads it.
    std::string to_json() const;
    /// `source` stands for the text in messages of a format_error.
    static conversation from_json(std::string_view json, const std::string& source);

  private:
    bool has_system() const;

    nlohmann::ordered_json messages_ = nlohmann::ordered_json::array();
};

}  // namespace qwen
