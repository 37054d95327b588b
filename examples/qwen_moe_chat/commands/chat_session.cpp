#include "qwen_moe_chat/commands/chat_session.hpp"

#include "qwen_moe_chat/commands/command.hpp"
#include "qwen_moe_chat/utf8.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <unistd.h>

namespace qwen {

namespace {

using json = nlohmann::ordered_json;

void print(const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\r\n";
    const std::size_t begin = text.find_first_not_of(blanks);
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

/// A path as it is typed: ~ is the home folder.
std::filesystem::path typed_path(std::string_view text) {
    const char* home = std::getenv("HOME");
    if (home != nullptr && (text == "~" || text.starts_with("~/")))
        return std::string(home) + std::string(text.substr(1));
    return text;
}

template <class T>
bool parse(std::string_view text, T& to) {
    const auto result = std::from_chars(text.data(), text.data() + text.size(), to);
    return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

[[noreturn]] void refuse(const std::string& problem) { throw usage_error(problem); }

std::string number_text(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

/// A text of the user's in an editor of the user's.
std::string edited(const std::string& text) {
    const char* folder = std::getenv("TMPDIR");
    std::string path = std::string(folder != nullptr && *folder == '/' ? folder : "/tmp") + "/qwen_moe_chat.XXXXXX";
    const int fd = ::mkstemp(path.data());
    if (fd < 0) hlwq::throw_io_error(path, errno);
    ::close(fd);
    struct remover {
        const std::string& path;
        ~remover() { ::unlink(path.c_str()); }
    } const at_end{path};
    hlwq::io::write_text_atomically(path, text);

    const char* editor = std::getenv("VISUAL");
    if (editor == nullptr || *editor == '\0') editor = std::getenv("EDITOR");
    if (editor == nullptr || *editor == '\0') editor = "vi";
    std::string command = std::string(editor) + " '";
    for (const char c : path) command += c == '\'' ? std::string("'\\''") : std::string(1, c);
    const int status = std::system((command + "'").c_str());
    if (status != 0) refuse("/edit: " + std::string(editor) + " ended with an error; nothing was sent");
    return hlwq::io::read_text_file(path);
}

/// A setting of /set, by the name of its option.
struct number_setting {
    std::string_view name;
    double sampling_options::*value;
};
constexpr number_setting number_settings[] = {{"temp", &sampling_options::temperature},
                                              {"top-p", &sampling_options::top_p},
                                              {"min-p", &sampling_options::min_p},
                                              {"presence-penalty", &sampling_options::presence_penalty},
                                              {"frequency-penalty", &sampling_options::frequency_penalty},
                                              {"repeat-penalty", &sampling_options::repetition_penalty}};

constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

}  // namespace

std::span<const chat_session::command> chat_session::commands() {
    using s = chat_session;
    static constexpr command all[] = {
        {"help", "", "this list", &s::help},
        {"clear", "", "begin anew; the system message stays", &s::clear},
        {"regen", "", "answer the last message again", &s::regenerate},
        {"undo", "", "take back the last message and its answer", &s::undo},
        {"edit", "", "write the next message in $VISUAL or $EDITOR", &s::edit},
        {"read", "FILE", "put a file in front of the next message", &s::read_file},
        {"system", "[TEXT|off]", "show, set or remove the system message", &s::set_system},
        {"think", "on|off|auto", "let the model think first, if its template knows how", &s::set_thinking},
        {"set", "[NAME VALUE]",
         "show or set temp, top-k, top-p, min-p, presence-penalty, frequency-penalty,\n"
         "                      repeat-penalty, seed, n (tokens of an answer; 0: no limit)",
         &s::set_option},
        {"stats", "[on|off]", "figures of the conversation; or whether every turn shows some", &s::stats},
        {"tokens", "[TEXT]", "tokens of the conversation, or of a text", &s::tokens},
        {"save", "FILE", "write the messages as JSON", &s::save},
        {"load", "FILE", "go on with messages written by /save", &s::load},
        {"exit", "", "leave; also /quit, /bye, Ctrl-D", &s::leave},
        {"quit", "", "", &s::leave},
        {"bye", "", "", &s::leave},
    };
    return all;
}

chat_session::chat_session(const chat_format& format, const tokenizer& text, generator& with, sampler& choose,
                           settings how)
    : format_(&format),
      tokenizer_(&text),
      generator_(&with),
      sampler_(&choose),
      settings_(std::move(how)),
      editor_(state_file("qwen_moe_chat", "history")) {
    talk_.set_system(settings_.system);
}

int chat_session::run() {
    while (!leaving_) {
        if (std::ferror(stdout) != 0) break;  // main says so
        interrupt_.set(false);
        try {
            if (!handle(read_message(editor_, "> "))) break;
        } catch (const std::exception& error) {
            print_error(error.what());
        }
    }
    return exit_code_;
}

/// False at the end.
bool chat_session::handle(line_editor::input message) {
    switch (message.what) {
        case line_editor::outcome::end: return false;
        case line_editor::outcome::interrupted: return interrupted(message.empty);
        case line_editor::outcome::text: break;
    }
    if (trimmed(message.text).empty() && to_send_.empty()) return true;
    if (!trimmed(message.text).empty()) editor_.remember(message.text);
    if (const std::size_t at = find_invalid_utf8(message.text); at != std::string::npos) {
        refuse("message: expected UTF-8, found something else at byte " + std::to_string(at));
    }
    if (message.text.starts_with("//")) {
        say(std::string_view(message.text).substr(1));
    } else if (message.text.starts_with('/')) {
        run_command(trimmed(message.text));
    } else {
        say(message.text);
    }
    return true;
}

/// Ctrl-C where a message was awaited: one drops the line, one on an empty line says how to leave, a second one soon
/// after it leaves. False at the end.
bool chat_session::interrupted(bool empty) {
    if (!empty) return true;
    const auto now = std::chrono::steady_clock::now();
    if (now - last_interrupt_ < std::chrono::seconds(2)) {
        exit_code_ = 130;
        return false;
    }
    last_interrupt_ = now;
    print("(Ctrl-C once more, Ctrl-D or /exit to leave)");
    return true;
}

void chat_session::run_command(std::string_view line) {
    const std::size_t end = std::min(line.find_first_of(" \t\n"), line.size());
    const std::string_view name = line.substr(1, end - 1), argument = trimmed(line.substr(end));
    for (const command& known : commands()) {
        if (known.name != name) continue;
        if (!argument.empty() && known.arguments.empty()) {
            refuse("/" + std::string(name) + ": expected nothing behind it, found " + std::string(argument));
        }
        return (this->*known.run)(argument);
    }
    refuse("/" + std::string(name) + ": no such command (/help lists them; //text sends a text that begins with /)");
}

chat_prompt chat_session::prompt_now() const {
    json variables = {{"messages", talk_.messages()}};
    if (settings_.thinking) variables["enable_thinking"] = *settings_.thinking;
    return make_prompt(*format_, *tokenizer_, std::move(variables));
}

void chat_session::say(std::string_view text) {
    std::string message = to_send_;
    if (!message.empty() && !text.empty()) message += "\n";
    message += text;
    talk_.add_user(message);
    try {
        respond();
    } catch (...) {
        talk_.remove_turn();  // a message that cannot be answered, too long for the context say, would stop all that
                              // follow
        throw;
    }
    to_send_.clear();
}

/// Answers the last message.
void chat_session::respond() {
    const chat_prompt from = prompt_now();
    last_turn_ = view_.run(*generator_, {from.ids, from.snapshots}, *sampler_, settings_.generation, true,
                           from.thinking, interrupt_);
    written_ += last_turn_->result.tokens.size();
    talk_.add_assistant(last_turn_->answer, last_turn_->thinking);
    if (settings_.figures) view_.show_figures(*last_turn_, settings_.generation.context);
}

void chat_session::help(std::string_view) {
    for (const command& c : commands()) {
        if (c.help.empty()) continue;
        const std::string call = "/" + std::string(c.name) + " " + std::string(c.arguments);
        std::fprintf(stderr, "  %-19s %s\n", call.c_str(), std::string(c.help).c_str());
    }
    print("  Several lines: between two \"\"\", or with \\ at the end of each, or with Alt-Enter, or pasted.");
    print("  Ctrl-C stops an answer.");
}

void chat_session::clear(std::string_view) {
    talk_.clear();
    to_send_.clear();
}

void chat_session::regenerate(std::string_view) {
    conversation before = talk_;
    if (!talk_.remove_answer()) refuse("/regen: there is no answer yet");
    try {
        respond();
    } catch (...) {
        talk_ = std::move(before);
        throw;
    }
}

void chat_session::undo(std::string_view) {
    const auto message = talk_.remove_turn();
    if (!message) refuse("/undo: there is no message yet");
    print("taken back: " + message->substr(0, message->find('\n')));
}

void chat_session::edit(std::string_view) {
    const std::string text = edited("");
    if (const std::size_t at = find_invalid_utf8(text); at != std::string::npos) {
        refuse("/edit: expected UTF-8, found something else at byte " + std::to_string(at));
    }
    if (trimmed(text).empty()) return print("nothing was written");
    editor_.remember(std::string(trimmed(text)));
    say(trimmed(text));
}

void chat_session::read_file(std::string_view path) {
    if (path.empty()) refuse("/read: expected the name of a file");
    const std::string text = hlwq::io::read_text_file(typed_path(path));
    if (const std::size_t at = find_invalid_utf8(text); at != std::string::npos) {
        refuse(std::string(path) + ": expected UTF-8, found something else at byte " + std::to_string(at));
    }
    to_send_ += text;
    print(std::to_string(text.size()) + " bytes will stand in front of your next message");
}

void chat_session::set_system(std::string_view text) {
    if (text == "off") return talk_.set_system(std::nullopt);
    if (!text.empty()) return talk_.set_system(std::string(text));
    print(talk_.system().value_or("(no system message)"));
}

void chat_session::set_thinking(std::string_view how) {
    if (how != "on" && how != "off" && how != "auto") refuse("/think: expected on, off or auto");
    settings_.thinking = how == "auto" ? std::nullopt : std::optional<bool>(how == "on");
}

void chat_session::set_option(std::string_view text) {
    sampling_options options = sampler_->options();
    std::size_t& most = settings_.generation.max_tokens;
    if (text.empty()) {
        std::string line;
        for (const number_setting& known : number_settings) {
            line += std::string(known.name) + " " + number_text(options.*known.value) + ", ";
        }
        return print(line + "top-k " + std::to_string(options.top_k) + ", n " +
                     (most == no_limit ? "0" : std::to_string(most)));
    }
    const std::size_t space = std::min(text.find_first_of(" \t="), text.size());
    const std::string_view name = text.substr(0, space), value = trimmed(text.substr(std::min(space + 1, text.size())));
    const auto require = [&](bool parsed) {
        if (!parsed)
            refuse("/set " + std::string(name) + ": expected a number, found " +
                   (value.empty() ? "nothing" : std::string(value)));
    };
    std::uint64_t count = 0;
    if (name == "seed") {
        require(parse(value, count));
        return sampler_->seed(count);
    }
    if (name == "n") {
        require(parse(value, count));
        most = count == 0 ? no_limit : count;
        return;
    }
    const auto known = std::ranges::find(number_settings, name, &number_setting::name);
    if (name == "top-k") {
        require(parse(value, options.top_k));
    } else if (known != std::end(number_settings)) {
        require(parse(value, options.*known->value));
    } else {
        refuse("/set " + std::string(name) + ": no such setting (/help lists them)");
    }
    sampler_->set(std::move(options));
}

void chat_session::stats(std::string_view how) {
    if (how == "on" || how == "off") {
        settings_.figures = how == "on";
        return;
    }
    if (!how.empty()) refuse("/stats: expected on, off or nothing");
    print(std::to_string(talk_.turns()) + " messages, " + std::to_string(written_) + " tokens written, " +
          std::to_string(generator_->tokens()) + " of " + std::to_string(settings_.generation.context) +
          " tokens of context in use, " + std::to_string(generator_->snapshots().size()) + " snapshots");
    if (last_turn_) view_.show_figures(*last_turn_, settings_.generation.context);
}

void chat_session::tokens(std::string_view text) {
    if (text.empty()) {
        const std::size_t count = talk_.empty() ? 0 : prompt_now().ids.size();
        return print(std::to_string(count) + " tokens of " + std::to_string(settings_.generation.context));
    }
    std::string line;
    const auto ids = tokenizer_->encode(text);
    for (const token_id id : ids) {
        line += std::to_string(id) + " " + json(tokenizer_->decode({&id, 1})).dump() + "  ";
    }
    print(line + "(" + std::to_string(ids.size()) + ")");
}

void chat_session::save(std::string_view path) {
    if (path.empty()) refuse("/save: expected the name of a file");
    hlwq::io::write_text_atomically(typed_path(path), talk_.to_json());
}

void chat_session::load(std::string_view path) {
    if (path.empty()) refuse("/load: expected the name of a file");
    talk_ = conversation::from_json(hlwq::io::read_text_file(typed_path(path)), std::string(path));
    print(std::to_string(talk_.turns()) + " messages");
}

void chat_session::leave(std::string_view) { leaving_ = true; }

}  // namespace qwen
