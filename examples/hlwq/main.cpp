// hlwq — quantizes checkpoints, restores them, describes and compares them
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/program.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <new>
#include <string>

namespace {

int run(int argc, char** argv) {
    CLI::App app("Hadamard rotation, Lloyd-Max codebooks, packed weights: checkpoints to HLWQ and back", "hlwq");
    app.set_version_flag("--version", std::string("hlwq ") + hlwq::version + " (" + hlwq::isa_name() + ", " +
                                          hlwq::backend_name() + ")");
    app.require_subcommand(1);
    tool::add_quantize(app);
    tool::add_dequantize(app);
    tool::add_info(app);
    tool::add_compare(app);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
        tool::print_error(std::string(error.what()) + " (hlwq --help lists commands and options)");
        return 2;
    }
    // Output that could not be written, to a full disk say, is a failure too.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        tool::print_error("standard output: expected to write the result, found an error");
        return 1;
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        tool::watch_signals();
        return run(argc, argv);
    } catch (const tool::interrupted& stop) {
        return 128 + stop.signal();
    } catch (const tool::usage_error& error) {
        tool::print_error(error.what());
        return 2;
    } catch (const std::bad_alloc&) {
        tool::print_error("memory: expected to be granted, found none left");
        return 1;
    } catch (const std::exception& error) {
        tool::print_error(error.what());
        return 1;
    }
}
