// chat: one answer for -p, -f or a pipe; a conversation at a terminal
#include "qwen_moe_chat/commands/answer_view.hpp"
#include "qwen_moe_chat/commands/chat_session.hpp"
#include "qwen_moe_chat/commands/command.hpp"
#include "qwen_moe_chat/commands/interrupt.hpp"
#include "qwen_moe_chat/commands/sampling_arguments.hpp"
#include "qwen_moe_chat/conversation.hpp"
#include "qwen_moe_chat/generation.hpp"
#include "qwen_moe_chat/generation_config.hpp"
#include "qwen_moe_chat/utf8.hpp"

#include "console/terminal.hpp"
#include "hlwq/dispatch/dispatch.hpp"
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

namespace qwen {

namespace {

// Keys and values take memory as a conversation grows: 40 kB a token for 35B-A3B.
constexpr std::size_t usual_context = 32768;

struct chat_options {
    model_options model;
    sampling_arguments sampling;
    std::optional<std::string> prompt, system;
    std::optional<std::string> file;
    std::optional<std::size_t> tokens, context;
    std::vector<std::string> stop;
    bool raw = false, think = false, no_think = false, no_stats = false;
};

void require_utf8(const std::string& text, const std::string& where) {
    const std::size_t at = find_invalid_utf8(text);
    if (at == std::string::npos) return;
    char byte[8];
    std::snprintf(byte, sizeof byte, "0x%02x", static_cast<unsigned>(static_cast<unsigned char>(text[at])));
    hlwq::throw_error<hlwq::format_error>(where + ": expected UTF-8, found byte " + byte + " at offset " +
                                          std::to_string(at));
}

std::string read_standard_input() {
    std::string text;
    char buffer[1 << 16];
    for (;;) {
        const ::ssize_t count = ::read(STDIN_FILENO, buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) hlwq::throw_io_error("standard input", errno);
        if (count == 0) return text;
        text.append(buffer, static_cast<std::size_t>(count));
    }
}

/// The prompt of a single turn; none for a conversation. Standard input is read only if nothing else gives the prompt:
/// in scripts it often is a pipe that nobody writes to.
std::optional<std::string> read_prompt(const chat_options& options) {
    if (options.prompt) {
        if (options.prompt->empty()) throw usage_error("-p: expected a text, found an empty one");
        require_utf8(*options.prompt, "-p");
        return options.prompt;
    }
    if (!options.file && ::isatty(STDIN_FILENO) != 0) return std::nullopt;
    const bool piped = !options.file || *options.file == "-";
    const std::string where = piped ? "standard input" : *options.file;
    std::string text = piped ? read_standard_input() : hlwq::io::read_text_file(*options.file);
    require_utf8(text, where);
    if (text.ends_with('\n')) text.pop_back();  // editors end the last line, too
    HLWQ_EXPECTS(!text.empty(), hlwq::format_error, where, "a prompt", "nothing");
    return text;
}

std::size_t resolve_context(const chat_options& options, const model_config& config) {
    if (options.context > config.max_positions) {
        throw usage_error("--ctx: expected at most " + std::to_string(config.max_positions) +
                          ", the context of the model, found " + std::to_string(*options.context));
    }
    return options.context.value_or(std::min(config.max_positions, usual_context));
}

void show_banner(const session& run, const chat_options& options, std::size_t context, unsigned threads) {
    const hlwq::checkpoint::reader& file = run.model().file();
    std::uint64_t bytes = 0;
    for (const auto& shard : file.files()) bytes += shard.file().bytes().size();
    const auto folder = std::filesystem::weakly_canonical(options.model.model);
    const std::string bits = file.bits() == 0 ? "not quantized" : std::to_string(file.bits()) + " bits";
    std::fprintf(stderr, "%s · %s · %s · context %zu · %s, %s · %u threads\n/help lists what else can be typed\n",
                 folder.filename().string().c_str(), bits.c_str(),
                 console::size_text(static_cast<double>(bytes)).c_str(), context,
                 std::string(hlwq::dispatch::isa()).c_str(), std::string(hlwq::dispatch::backend()).c_str(), threads);
}

void run_chat(const chat_options& options) {
    const std::optional<std::string> text = read_prompt(options);
    if (options.raw && !text) throw usage_error("--raw: expected a prompt (-p, -f or a pipe), found a terminal");
    if (options.system) require_utf8(*options.system, "--system");
    generation_options generation;
    generation.stop = options.stop;
    for (const std::string& stop : options.stop) {
        if (stop.empty()) throw usage_error("--stop: expected a text, found an empty one");
        require_utf8(stop, "--stop");
    }

    const session run(options.model);
    const model_config& config = run.model().config();
    const std::filesystem::path& folder = options.model.model;
    const tokenizer tokens(folder / "tokenizer.json");
    const generation_config defaults = read_generation_config(folder);
    generation.context = resolve_context(options, config);
    if (defaults.max_new_tokens) generation.max_tokens = *defaults.max_new_tokens;
    if (options.tokens) generation.max_tokens = *options.tokens;
    sampler choose(resolve(defaults, options.sampling, config.vocabulary), config.vocabulary,
                   unused_tokens(config, tokens), resolve_seed(options.sampling));
    const auto ends = end_tokens(config, defaults, tokens);
    std::optional<bool> thinking;
    if (options.think || options.no_think) thinking = options.think;

    if (!text) {
        show_banner(run, options, generation.context, run.how().threads.concurrency());
        const chat_format format(folder);
        generator with(run.model(), tokens, ends, run.how());
        const int code =
            chat_session(format, tokens, with, choose, {generation, options.system, thinking, !options.no_stats}).run();
        if (code != 0) throw exit_request{code};
        return;
    }

    chat_prompt from;
    if (options.raw) {
        from.ids = tokens.encode(*text);
    } else {
        conversation talk;
        talk.set_system(options.system);
        talk.add_user(*text);
        nlohmann::ordered_json variables = {{"messages", talk.messages()}};
        if (thinking) variables["enable_thinking"] = *thinking;
        from = make_prompt(chat_format(folder), tokens, std::move(variables));
    }
    generator with(run.model(), tokens, ends, run.how(), 0);
    interrupt_flag interrupt(true);
    answer_view view;
    const turn result = view.run(with, {from.ids}, choose, generation, !options.raw, from.thinking, interrupt);
    if (!options.no_stats) view.show_figures(result, generation.context);
    if (result.result.reason == finish_reason::cancelled && std::ferror(stdout) == 0) throw exit_request{130};
}

}  // namespace

void add_chat(CLI::App& app) {
    auto* sub = app.add_subcommand("chat", "talks at a terminal; answers -p, -f or a pipe (the default command)");
    auto options = std::make_shared<chat_options>();
    auto* prompt = sub->add_option("-p,--prompt", options->prompt, "answer this and end; standard input is not read")
                       ->type_name("TEXT");
    sub->add_option("-f,--file", options->file, "answer what this file says and end; -: standard input")
        ->type_name("FILE")
        ->excludes(prompt);
    sub->add_option("--system", options->system, "system message")->type_name("TEXT");
    auto* raw = sub->add_flag("--raw", options->raw, "continue the text itself, without the chat template");
    auto* think = sub->add_flag("--think", options->think, "enable_thinking = true for the template");
    sub->add_flag("--no-think", options->no_think, "enable_thinking = false for the template")->excludes(think);
    raw->excludes("--system")->excludes(think)->excludes("--no-think");
    sub->add_option("-n", options->tokens, "tokens of an answer at most (default: what the context has room for)")
        ->check(CLI::PositiveNumber)
        ->type_name("N");
    sub->add_option("--ctx", options->context,
                    "tokens of prompt and answer at most (default: the model's, up to 32768)")
        ->check(CLI::Range(std::size_t{2}, std::size_t{1} << 40))
        ->type_name("N");
    sub->add_option("--stop", options->stop, "ends an answer in front of this text; repeatable")
        ->type_name("TEXT")
        ->allow_extra_args(false);
    sub->add_flag("--no-stats", options->no_stats, "no figures behind an answer");
    add_options(*sub, options->sampling);
    options->model.fast_prefill = true;
    add_options(*sub, options->model);
    sub->callback([options] { run_chat(*options); });
}

}  // namespace qwen
