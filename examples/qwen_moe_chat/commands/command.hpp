// qwen_moe_chat/commands/command.hpp — the subcommands, and what they share: options, the open model, how a run ends
//
// Exit codes: 0 success, 1 bad data or a failed system call, 2 wrong usage. Results go to stdout or to files, remarks
// and errors to stderr.
#pragma once

#include "qwen_moe_chat/model.hpp"

#include "hlwq/thread_pool.hpp"

#include <CLI/CLI.hpp>

#include <filesystem>
#include <stdexcept>
#include <string>

namespace qwen {

/// Adds one subcommand to the program; its work runs when CLI11 calls it back.
using command = void(CLI::App& app);

command add_chat, add_logits, add_tokenize, add_detokenize, add_render, add_report;
command add_perplexity, add_kld, add_choice, add_bench, add_synth;

/// Every subcommand: a declaration above, a name here.
inline constexpr command* commands[] = {add_chat,   add_logits, add_tokenize,   add_detokenize,
                                        add_render, add_report, add_perplexity, add_kld,
                                        add_choice, add_bench,  add_synth};

/// The command line asks for something that cannot be: exit code 2.
class usage_error : public std::runtime_error {
  public:
    explicit usage_error(const std::string& message) : std::runtime_error(message) {}
};

/// Ends the program with this exit code; everything has been said. Thrown.
struct exit_request {
    int code = 0;
};

/// Options of every command that runs a model.
struct model_options {
    std::filesystem::path model;  // the embedded one unless given
    unsigned threads = 0;         // 0: all cores
    std::string mode;             // "exact", "precise" or "fast"; empty: precise
    bool fast_prefill = false;    // without a mode: prompts in fast
    std::string layout = "auto";  // of packed codes in memory: "auto", "wire" or "planes"
};
void add_options(CLI::App& app, model_options& to);

/// A model, ready to run.
class session {
  public:
    /// Opens the model and reports its notes.
    explicit session(const model_options& options);

    const qwen::model& model() const noexcept { return model_; }
    const compute& how() const noexcept { return how_; }

  private:
    hlwq::thread_pool pool_;
    qwen::model model_;
    compute how_;
};

/// A remark on stderr.
void remark(const std::string& text);
/// One line on stderr: qwen_moe_chat: error: ...
void print_error(const std::string& message);

}  // namespace qwen
