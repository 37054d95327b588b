// hlwq/program.hpp — what all subcommands share: settings, sizes, signals, how a run ends
//
// Exit codes: 0 success, 1 bad data or a failed system call, 2 wrong usage, 128 + signal after SIGINT or SIGTERM.
#pragma once

#include "console/process.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace tool {

/// The command line asks for something that cannot be: exit code 2.
class usage_error : public std::runtime_error {
  public:
    explicit usage_error(const std::string& message) : std::runtime_error(message) {}
};

/// SIGINT or SIGTERM arrived.
class interrupted : public std::exception {
  public:
    explicit interrupted(int signal) : signal_(signal) {}
    int signal() const noexcept { return signal_; }
    const char* what() const noexcept override { return "interrupted"; }

  private:
    int signal_;
};

/// SIGINT and SIGTERM are remembered instead of ending the process; a mapped file that shrinks ends it with a sentence.
void watch_signals();
/// Throws `interrupted` if one of them has arrived. Called between pieces of work of a few milliseconds.
void check_interrupted();

/// Options that every subcommand has.
struct settings {
    unsigned threads = 0;  // 0: all cores
    std::string max_ram = "2GiB";
    bool json = false;

    unsigned thread_count() const;
};

/// What the commands that write a folder have in addition.
struct output_settings {
    std::filesystem::path in, out;
    bool resume = false, force = false, dry_run = false;
    std::string shard_size = "4GB";
};

void add_options(CLI::App& command, settings& to);
void add_options(CLI::App& command, output_settings& to);

/// "2GiB", "500 MB", "4096": GB = 10^9, GiB = 2^30. Throws usage_error that names `option`.
std::uint64_t parse_size(std::string_view text, std::string_view option);

using console::peak_resident_set;

/// A remark on stderr.
void remark(const std::string& text);

/// The sentence that ends a run which was stopped, said by the command that knows how to go on.
void print_error(const std::string& message);

/// Each subcommand adds itself; its work runs when CLI11 calls it back.
void add_quantize(CLI::App& app);
void add_dequantize(CLI::App& app);
void add_info(CLI::App& app);
void add_compare(CLI::App& app);

}  // namespace tool
