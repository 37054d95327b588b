#include "qwen_moe_chat/commands/command.hpp"

#include "hlwq/dispatch/dispatch.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>

#include <unistd.h>

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
    app.add_option("--layout", to.layout,
                   "order of packed codes in memory (default: auto, what this processor reads fastest); another order "
                   "than the file's is made at the start, which reads all of the file and takes memory for the codes")
        ->check(CLI::IsMember({"auto", "wire", "planes"}))
        ->type_name("auto|wire|planes");
}

namespace {

hlwq::precision precision_of(const std::string& mode) {
    return mode == "exact" ? hlwq::precision::exact : mode == "fast" ? hlwq::precision::fast : hlwq::precision::precise;
}

/// The checkpoint with its codes in the layout that was asked for.
std::unique_ptr<hlwq::checkpoint::reader> open(const model_options& options, hlwq::thread_pool& pool) {
    auto file = std::make_unique<hlwq::checkpoint::reader>(options.model);
    const auto asked = hlwq::checkpoint::parse_layout(options.layout);
    std::uint64_t size = 0;
    for (const auto& t : file->tensors()) {
        if (t.quantized && layout_in_memory(t, asked) != t.packed.format.layout) size += t.packed.codes.size();
    }
    // Codes of their own memory cannot be dropped and read again as those of a file can.
    const std::uint64_t memory =
        static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    if (!asked && size > memory / 4 * 3) {
        remark("codes stay in the order of the file: another would take more than three quarters of the memory");
        return file;
    }
    file->repack([&](const hlwq::checkpoint::tensor& t) { return layout_in_memory(t, asked); },
                 [&](std::span<std::byte> codes, const hlwq::block_format& format, hlwq::layout_id to) {
                     return hlwq::dispatch::repack_in_place(codes, format, to, pool);
                 });
    return file;
}

}  // namespace

session::session(const model_options& options)
    : pool_(options.threads),
      model_(open(options, pool_)),
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
