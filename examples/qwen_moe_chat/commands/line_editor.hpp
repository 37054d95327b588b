// qwen_moe_chat/commands/line_editor.hpp — messages typed at a terminal
//
// With libedit: cursor keys, history, pasted text as one piece, Alt-Enter for a line break. Without it: plain lines;
// lines that arrive together are one piece.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace qwen {

class line_editor {
  public:
    enum class outcome { text, interrupted, end };
    struct input {
        outcome what = outcome::end;
        std::string text;   // without the last line break; it may hold others
        bool empty = true;  // nothing had been typed when it was interrupted
    };

    /// `history`: a file that is read now and written at the end; problems with it are of no consequence. Empty: none.
    explicit line_editor(std::filesystem::path history);
    ~line_editor();
    line_editor(const line_editor&) = delete;
    line_editor& operator=(const line_editor&) = delete;

    /// Waits for a line, or for Ctrl-C or Ctrl-D in its place.
    input read(const std::string& prompt);
    /// Adds a text to the history.
    void remember(const std::string& text);

  private:
    struct implementation;
    std::unique_ptr<implementation> implementation_;
};

/// A whole message: one line, lines that end in a backslash and the one behind them, or lines between two """.
line_editor::input read_message(line_editor& from, const std::string& prompt);

/// Where a program of this name may keep a file of that name between runs: below XDG_STATE_HOME, else below
/// ~/.local/state; empty if neither is known. The folder is made if it can be.
std::filesystem::path state_file(const char* program, const char* name);

}  // namespace qwen
