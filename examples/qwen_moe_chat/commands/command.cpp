#include "qwen_moe_chat/commands/command.hpp"

#include <algorithm>
#include <cstdio>

namespace qwen {

void add_options(CLI::App& app, model_options& to) {
    to.model = QWEN_EMBEDDED_MODEL;
    app.add_option("--model", to.model, "folder of the checkpoint (default: the embedded model)")->type_name("DIR");
    app.add_option("--threads", to.threads, "worker threads (default: all cores)")
        ->check(CLI::Range(1u, 1024u))
        ->type_name("N");
    app.add_option("--mode", to.mode,
                   to.fast_prefill ? "arithmetic of packed codes (default: precise, prompts fast)"
                                   : "arithmetic of packed codes: float, two bytes or one (default: precise)")
        ->check(CLI::IsMember({"exact", "precise", "fast"}))
        ->type_name("exact|precise|fast");
}

namespace {

hlwq::precision precision_of(const std::string& mode) {
    return mode == "exact" ? hlwq::precision::exact : mode == "fast" ? hlwq::precision::fast : hlwq::precision::precise;
}

}  // namespace

session::session(const model_options& options)
    : model_(options.model),
      pool_(options.threads),
      how_{pool_, precision_of(options.mode), options.mode.empty() && options.fast_prefill} {
    for (const std::string& note : model_.file().notes()) remark(note);
    for (const std::string& note : model_.weights().notes) remark(note);
}

void remark(const std::string& text) { std::fprintf(stderr, "qwen_moe_chat: %s\n", text.c_str()); }

void print_error(const std::string& message) {
    // One line, whatever a file name or a tensor name contains.
    std::string line = message;
    std::replace_if(
        line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    std::fprintf(stderr, "qwen_moe_chat: error: %s\n", line.c_str());
}

}  // namespace qwen
