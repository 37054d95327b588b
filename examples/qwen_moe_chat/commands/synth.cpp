// synth --shape S --layers N OUT_DIR: a checkpoint of a real shape with random weights
#include "qwen_moe_chat/commands/command.hpp"
#include "qwen_moe_chat/synth.hpp"

#include "console/process.hpp"
#include "console/progress.hpp"
#include "console/terminal.hpp"

#include "hlwq/error.hpp"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <system_error>

namespace qwen {

namespace {

namespace fs = std::filesystem;

struct synth_arguments {
    synth_options what;
    fs::path out;
    unsigned threads = 0;
    bool bf16 = false, force = false, json = false;
};

/// Whether a file is one that a checkpoint of another plan may have left.
bool is_ours(const fs::path& path) {
    const std::string name = path.filename().string();
    return name.starts_with("model") && (name.ends_with(".safetensors") || name.ends_with(".safetensors.partial") ||
                                         name == "model.safetensors.index.json");
}

void take_folder(const synth_arguments& arguments, std::uint64_t bytes) {
    std::error_code code;
    fs::create_directories(arguments.out, code);
    if (code) hlwq::throw_io_error(arguments.out.string(), code.value());
    if (!arguments.force && !fs::is_empty(arguments.out)) {
        throw usage_error("OUT_DIR " + arguments.out.string() +
                          ": expected an empty folder or a new name, found files (--force writes among them)");
    }
    for (const auto& entry : fs::directory_iterator(arguments.out)) {
        if (is_ours(entry.path()) || entry.path().filename() == "polar_config.json") fs::remove(entry.path());
    }
    const auto space = fs::space(arguments.out, code);
    if (!code && space.available < bytes) {
        hlwq::throw_io_error(arguments.out.string() + ": expected " + console::size_text(static_cast<double>(bytes)) +
                                 " of free disk, found " + console::size_text(static_cast<double>(space.available)),
                             ENOSPC);
    }
}

void run_synth(const synth_arguments& arguments) {
    const auto start = std::chrono::steady_clock::now();
    const synth_size planned = measure_synth(arguments.what);
    take_folder(arguments, planned.bytes);
    hlwq::thread_pool pool(arguments.threads);
    console::progress bar("synth", "weights", planned.parameters, planned.bytes);
    const synth_size size = write_synth(
        arguments.what, arguments.out, pool,
        [&](std::uint64_t weights, std::uint64_t bytes, std::string_view name) { bar.advance(weights, bytes, name); });
    bar.finish();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (arguments.json) {
        nlohmann::ordered_json json{{"output", arguments.out.string()},
                                    {"shape", arguments.what.shape},
                                    {"bits", nullptr},
                                    {"seed", arguments.what.seed},
                                    {"parameters", size.parameters},
                                    {"bytes", size.bytes},
                                    {"files", size.files},
                                    {"seconds", seconds},
                                    {"peak_rss", console::peak_resident_set()}};
        if (arguments.what.bits) json["bits"] = *arguments.what.bits;
        std::printf("%s\n", json.dump(1).c_str());
        return;
    }
    const std::string format = arguments.what.bits ? std::to_string(*arguments.what.bits) + "-bit codes" : "BF16";
    std::printf("%s: %s parameters, %s, %s in %zu file%s; peak memory %s\n", arguments.out.c_str(),
                console::grouped(size.parameters).c_str(), format.c_str(),
                console::size_text(static_cast<double>(size.bytes)).c_str(), size.files, size.files == 1 ? "" : "s",
                console::size_text(static_cast<double>(console::peak_resident_set())).c_str());
}

}  // namespace

void add_synth(CLI::App& app) {
    auto* sub = app.add_subcommand("synth", "a checkpoint of a real shape with random weights, to measure speed with");
    auto arguments = std::make_shared<synth_arguments>();
    arguments->what.bits = 5;
    std::vector<std::string> shapes(synth_shapes().begin(), synth_shapes().end());
    sub->add_option("OUT_DIR", arguments->out, "folder to write; made if missing, else empty")->required();
    sub->add_option("--shape", arguments->what.shape, "the model whose shape it has; tiny is for tests")
        ->required()
        ->check(CLI::IsMember(shapes))
        ->type_name("35b-a3b|9b|27b|tiny");
    sub->add_option("--layers", arguments->what.layers, "number of layers (default: the model's)")
        ->check(CLI::Range(std::size_t{1}, std::size_t{4096}))
        ->type_name("N");
    sub->add_option("--vocab", arguments->what.vocabulary, "rows of embedding and head (default: the model's)")
        ->check(CLI::Range(least_synth_vocabulary, std::size_t{1} << 24))
        ->type_name("N");
    auto* bits = sub->add_option("--bits", arguments->what.bits, "bits of a code (default 5)")
                     ->check(CLI::Range(2, 8))
                     ->type_name("B");
    sub->add_flag("--bf16", arguments->bf16, "BF16 weights instead")->excludes(bits);
    sub->add_option("--seed", arguments->what.seed, "of the weights")->capture_default_str()->type_name("N");
    sub->add_option("--threads", arguments->threads,
                    "worker threads (default: all cores); the files do not depend on it")
        ->check(CLI::Range(1u, 1024u))
        ->type_name("N");
    sub->add_flag("--force", arguments->force, "write into a folder that has files; a checkpoint in it is replaced");
    sub->add_flag("--json", arguments->json, "the result as one JSON object on stdout");
    sub->callback([arguments] {
        if (arguments->bf16) arguments->what.bits.reset();
        run_synth(*arguments);
    });
}

}  // namespace qwen
