#include "hlwq/program.hpp"

#include <CLI/CLI.hpp>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <thread>
#include <utility>

namespace tool {

namespace {

std::atomic<int> arrived_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void remember_signal(int signal) {
    // A second one means that the first was not heeded: end now. Nothing is under its final name.
    if (arrived_signal.exchange(signal) != 0) ::_exit(128 + signal);
}

extern "C" void end_on_bus_error(int) {
    constexpr char text[] =
        "\nhlwq: error: a mapped input file: expected its size to stay, found it cut or unreadable\n";
    if (::write(STDERR_FILENO, text, sizeof text - 1) < 0) ::_exit(1);
    ::_exit(1);
}

}  // namespace

void watch_signals() {
    struct sigaction action {};
    sigemptyset(&action.sa_mask);
    action.sa_handler = remember_signal;
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
    action.sa_handler = end_on_bus_error;
    ::sigaction(SIGBUS, &action, nullptr);
    // A write beyond RLIMIT_FSIZE, or to a closed pipe, shall fail with an errno that can be reported.
    action.sa_handler = SIG_IGN;
    ::sigaction(SIGXFSZ, &action, nullptr);
    ::sigaction(SIGPIPE, &action, nullptr);
}

void check_interrupted() {
    if (const int signal = arrived_signal.load(std::memory_order_relaxed); signal != 0) throw interrupted(signal);
}

unsigned settings::thread_count() const {
    return threads != 0 ? threads : std::max(1u, std::thread::hardware_concurrency());
}

void add_options(CLI::App& command, settings& to) {
    command.add_option("--threads", to.threads, "worker threads (default: all cores)")
        ->check(CLI::Range(1u, 1024u))
        ->type_name("N");
    command.add_option("--max-ram", to.max_ram, "bound of the peak resident set")
        ->capture_default_str()
        ->type_name("SIZE");
    command.add_flag("--json", to.json, "the result as one JSON object on stdout");
}

void add_options(CLI::App& command, output_settings& to) {
    command.add_option("IN_DIR", to.in, "folder of the checkpoint")->required();
    command.add_option("OUT_DIR", to.out, "folder to write; made if missing, else empty")->required();
    command.add_flag("--resume", to.resume, "go on with a run of the same options that was stopped");
    command.add_flag("--force", to.force, "write into a folder that has files; only our own are replaced");
    command.add_flag("--dry-run", to.dry_run, "say what would be done, write nothing");
    command.add_option("--shard-size", to.shard_size, "tensor bytes per file")
        ->capture_default_str()
        ->type_name("SIZE");
}

std::uint64_t parse_size(std::string_view text, std::string_view option) {
    static constexpr std::pair<std::string_view, double> units[] = {
        {"", 1.0},       {"B", 1.0},      {"kB", 1e3},     {"KB", 1e3},     {"MB", 1e6},
        {"GB", 1e9},     {"TB", 1e12},    {"KiB", 0x1p10}, {"kiB", 0x1p10}, {"MiB", 0x1p20},
        {"GiB", 0x1p30}, {"TiB", 0x1p40}, {"k", 1e3},      {"M", 1e6},      {"G", 1e9},
    };
    double number = 0.0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    auto unit = text.substr(static_cast<std::size_t>(end - text.data()));
    while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
    const auto known = std::find_if(std::begin(units), std::end(units), [&](const auto& u) { return u.first == unit; });
    const double size = known == std::end(units) ? -1.0 : number * known->second;
    if (code != std::errc{} || !(size >= 1.0 && size < 0x1p62)) {
        throw usage_error(std::string(option) + ": expected a size such as 2GiB, 500MB or 1000000, found `" +
                          std::string(text) + "`");
    }
    return static_cast<std::uint64_t>(size);
}

void remark(const std::string& text) { std::fprintf(stderr, "hlwq: %s\n", text.c_str()); }

void print_error(const std::string& message) {
    // One line, whatever a file name or a tensor name contains.
    std::string line = message;
    std::replace_if(
        line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    std::fprintf(stderr, "hlwq: error: %s\n", line.c_str());
}

}  // namespace tool
