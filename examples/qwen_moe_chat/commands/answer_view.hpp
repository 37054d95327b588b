// qwen_moe_chat/commands/answer_view.hpp — one turn as a person or a pipe sees it: the answer on stdout, its thinking
// and a line of figures on stderr
#pragma once

#include "qwen_moe_chat/commands/interrupt.hpp"
#include "qwen_moe_chat/generation.hpp"

#include "console/terminal.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace qwen {

/// What was said in a turn.
struct turn {
    generation_result result;
    std::string answer, thinking;
};

class answer_view {
  public:
    answer_view();

    const console::terminal& err() const noexcept { return err_; }

    /// Runs one turn and shows it while it grows; ends early where `interrupt` is set or stdout takes no more. With
    /// `tags` the text between <think> and </think> is thinking; `inside`: the prompt opened it.
    turn run(generator& with, const prompt& from, sampler& choose, const generation_options& options, bool tags,
             bool inside, interrupt_flag& interrupt);

    /// The line of figures on stderr: tokens read, reused and written, their rates, the part of the context in use.
    void show_figures(const turn& of, std::size_t context) const;

  private:
    void write(const thinking_splitter::piece& text, turn& to);

    console::terminal out_, err_;
    bool thinking_shown_ = false;
};

/// The text without control characters that move the cursor or change the terminal.
std::string without_controls(std::string_view text);

}  // namespace qwen
