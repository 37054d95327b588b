// qwen_moe_chat/commands/chat_session.hpp — a conversation at a terminal: messages, answers, /commands
#pragma once

#include "qwen_moe_chat/commands/answer_view.hpp"
#include "qwen_moe_chat/commands/line_editor.hpp"
#include "qwen_moe_chat/conversation.hpp"
#include "qwen_moe_chat/generation.hpp"

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace qwen {

class chat_session {
  public:
    struct settings {
        generation_options generation;
        std::optional<std::string> system;
        std::optional<bool> thinking;  // enable_thinking of the template; none: left to the template
        bool figures = true;           // behind every turn
    };

    /// `choose` and `with` are used as long as the session lives.
    chat_session(const chat_format& format, const tokenizer& text, generator& with, sampler& choose, settings how);

    /// Until the user leaves; the exit code.
    int run();

  private:
    struct command {
        std::string_view name, arguments, help;
        void (chat_session::*run)(std::string_view argument);
    };
    static std::span<const command> commands();

    bool handle(line_editor::input message);
    bool interrupted(bool empty);
    void run_command(std::string_view line);
    void say(std::string_view text);
    void respond();
    chat_prompt prompt_now() const;

    void help(std::string_view);
    void clear(std::string_view);
    void regenerate(std::string_view);
    void undo(std::string_view);
    void edit(std::string_view);
    void read_file(std::string_view path);
    void set_system(std::string_view text);
    void set_thinking(std::string_view how);
    void set_option(std::string_view name_and_value);
    void stats(std::string_view how);
    void tokens(std::string_view text);
    void save(std::string_view path);
    void load(std::string_view path);
    void leave(std::string_view);

    const chat_format* format_;
    const tokenizer* tokenizer_;
    generator* generator_;
    sampler* sampler_;
    settings settings_;
    conversation talk_;
    interrupt_flag interrupt_{false};
    answer_view view_;
    line_editor editor_;
    std::string to_send_;  // read from a file, for the next message
    bool leaving_ = false;
    int exit_code_ = 0;
    std::chrono::steady_clock::time_point last_interrupt_{};
    std::optional<turn> last_turn_;
    std::size_t written_ = 0;  // tokens of all answers
};

}  // namespace qwen
