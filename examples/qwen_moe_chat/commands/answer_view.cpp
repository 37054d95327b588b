#include "qwen_moe_chat/commands/answer_view.hpp"

#include "console/progress.hpp"

#include <unistd.h>

#include <cstdio>
#include <optional>
#include <utility>

namespace qwen {

namespace {

void put(std::FILE* to, std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), to);
    std::fflush(to);
}

std::string rate(std::size_t tokens, double seconds) {
    if (tokens == 0 || seconds <= 0.0) return "";
    char text[32];
    const double value = static_cast<double>(tokens) / seconds;
    std::snprintf(text, sizeof text, " %.*f t/s", value < 100.0 ? 1 : 0, value);
    return text;
}

}  // namespace

std::string without_controls(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
        if (c == 0xc2 && next >= 0x80 && next < 0xa0) {  // U+0080 to U+009F
            ++i;
        } else if ((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t') {
            result += text[i];
        }
    }
    return result;
}

answer_view::answer_view() : out_(console::inspect(STDOUT_FILENO)), err_(console::inspect(STDERR_FILENO)) {}

void answer_view::write(const thinking_splitter::piece& text, turn& to) {
    if (!text.thinking.empty()) {
        to.thinking += text.thinking;
        const bool terminal = ::isatty(STDERR_FILENO) != 0;
        put(stderr,
            console::paint(err_, console::colour::faint, terminal ? without_controls(text.thinking) : text.thinking));
        thinking_shown_ = true;
    }
    if (text.answer.empty()) return;
    if (std::exchange(thinking_shown_, false)) put(stderr, "\n\n");
    to.answer += text.answer;
    put(stdout, ::isatty(STDOUT_FILENO) != 0 ? without_controls(text.answer) : text.answer);
}

turn answer_view::run(generator& with, const prompt& from, sampler& choose, const generation_options& options,
                      bool tags, bool inside, interrupt_flag& interrupt) {
    turn result;
    thinking_splitter split(inside);
    thinking_shown_ = false;

    std::optional<console::progress> bar;
    std::size_t read = 0;
    with.on_progress = [&](std::size_t now, std::size_t all) {
        if (!err_.interactive) return;
        if (!bar && all - now >= options.chunk) bar.emplace("prompt", "tokens", all, 0);
        if (!bar) return;
        bar->advance(now - read, 0, "");
        read = now;
        if (now == all) bar->clear();
    };
    const auto show = [&](const generated_token& token) {
        if (tags) {
            write(split.push(token.text), result);
        } else {
            write({"", std::string(token.text)}, result);
        }
        if (std::ferror(stdout) != 0) interrupt.set(true);
    };
    result.result = with.generate(from, choose, options, show, &interrupt.flag());
    if (bar) bar->clear();
    if (tags) write(split.finish(), result);
    with.on_progress = nullptr;
    if (thinking_shown_) put(stderr, "\n");
    if (!result.answer.empty() && !result.answer.ends_with('\n')) put(stdout, "\n");
    return result;
}

void answer_view::show_figures(const turn& of, std::size_t context) const {
    const generation_result& r = of.result;
    const std::size_t read = r.prompt_tokens - r.reused_tokens;
    std::string line = "[prompt " + std::to_string(r.prompt_tokens) + " tok";
    if (r.reused_tokens != 0) line += " (" + std::to_string(r.reused_tokens) + " cached)";
    line += rate(read, r.prompt_seconds) + " | answer " + std::to_string(r.tokens.size()) + " tok" +
            rate(r.decoded_tokens, r.answer_seconds) + " | ctx ";
    char part[16];
    std::snprintf(part, sizeof part, "%.0f %%",
                  100.0 * static_cast<double>(r.prompt_tokens + r.tokens.size()) / static_cast<double>(context));
    line += part;
    if (r.reason == finish_reason::cancelled) line += " | stopped";
    if (r.reason == finish_reason::length) {
        line += r.prompt_tokens + r.tokens.size() >= context ? " | context full" : " | cut at the limit of tokens";
    }
    put(stderr, console::paint(err_, console::colour::faint, line + "]") + "\n");
}

}  // namespace qwen
