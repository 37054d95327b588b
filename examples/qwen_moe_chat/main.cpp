// qwen_moe_chat — runs Qwen3.5 and 3.6 models, BF16 or quantized
#include "qwen_moe_chat/commands/command.hpp"

#include "hlwq/dispatch/dispatch.hpp"
#include "hlwq/config.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

namespace {

/// The arguments, last first as CLI11 takes them. `chat` is the command where none is named: its options may stand
/// alone.
std::vector<std::string> arguments(int argc, char** argv) {
    std::vector<std::string> list(argv + 1, argv + argc);
    const std::string first = list.empty() ? "-" : list.front();
    const bool of_program = first == "--help" || first == "-h" || first == "--version";
    if (first.starts_with('-') && !of_program) list.insert(list.begin(), "chat");
    std::reverse(list.begin(), list.end());
    return list;
}

int run(int argc, char** argv) {
    CLI::App app("Qwen3.5 and 3.6 models, BF16 or quantized, on the CPU", "qwen_moe_chat");
    const std::string isa(hlwq::dispatch::isa()), backend(hlwq::dispatch::backend());
    app.set_version_flag("--version",
                         std::string("qwen_moe_chat ") + hlwq::version + " (" + isa + ", " + backend + ")");
    app.require_subcommand(1);
    for (qwen::command* add : qwen::commands) add(app);
    std::vector<std::string> given = arguments(argc, argv);
    if (!given.back().starts_with('-') &&
        app.get_subcommands([&](const CLI::App* sub) { return sub->check_name(given.back()); }).empty()) {
        throw qwen::usage_error("expected a command or an option, found " + given.back() +
                                " (qwen_moe_chat --help lists them)");
    }
    try {
        app.parse(given);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
        qwen::print_error(std::string(error.what()) + " (qwen_moe_chat --help lists commands and options)");
        return 2;
    }
    // Output that could not be written, to a full disk say, is a failure too.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        qwen::print_error("standard output: expected to write the result, found an error");
        return 1;
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    // A write beyond RLIMIT_FSIZE, or to a closed pipe, shall fail with an errno that can be reported.
    std::signal(SIGXFSZ, SIG_IGN);
    std::signal(SIGPIPE, SIG_IGN);
    try {
        return run(argc, argv);
    } catch (const qwen::usage_error& error) {
        qwen::print_error(error.what());
        return 2;
    } catch (const qwen::exit_request& request) {
        return request.code;
    } catch (const std::bad_alloc&) {
        qwen::print_error("memory: expected to be granted, found none left");
        return 1;
    } catch (const std::exception& error) {
        qwen::print_error(error.what());
        return 1;
    }
}
