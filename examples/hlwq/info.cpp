// hlwq info — what a checkpoint is: dialect, codebook, kinds of tensors, sizes
#include "hlwq/io/checkpoint.hpp"
#include "hlwq/io/recipe.hpp"
#include "console/terminal.hpp"
#include "hlwq/program.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

namespace tool {

namespace {

using hlwq::checkpoint::decision;

struct info_settings : settings {
    std::filesystem::path folder;
};

/// Every tensor by kind; bytes are those of weights: codes and norms, or plain values.
hlwq::checkpoint::coverage cover(const hlwq::checkpoint::reader& model) {
    hlwq::checkpoint::coverage coverage;
    for (const auto& t : model.tensors()) {
        if (t.quantized) {
            const auto& w = t.packed;
            const std::string codes =
                std::string(hlwq::layout_name(w.format.layout)) + ", block " + std::to_string(w.format.block);
            coverage.add(t.slice ? t.slice->fused : t.name, {decision::action::quantize, w.format.bits, codes}, 1,
                         w.rows * w.cols, w.codes.size() + w.norms.size_bytes());
        } else {
            const auto element = hlwq::safetensors::dtype_size(t.dtype);
            coverage.add(t.name,
                         {decision::action::keep, static_cast<int>(8 * element),
                          std::string(hlwq::safetensors::dtype_name(t.dtype))},
                         1, t.bytes.size() / element, t.bytes.size());
        }
    }
    return coverage;
}

void run(const info_settings& s) {
    const hlwq::checkpoint::reader model(s.folder);
    std::uint64_t bytes = 0;  // with meta and tables
    for (const auto& file : model.files()) {
        for (const auto& tensor : file.tensors()) bytes += tensor.bytes.size();
    }
    const auto coverage = cover(model);
    const auto total = coverage.total(), quantized = coverage.total(true);
    const std::string dialect(to_string(model.kind()));
    if (s.json) {
        nlohmann::json kinds = coverage.to_json();
        for (auto& kind : kinds) kind.erase("relative_mse");
        const nlohmann::json result{{"path", s.folder.string()},
                                    {"dialect", dialect},
                                    {"codebook", model.codebook_name()},
                                    {"codebook_source", model.codebook_source()},
                                    {"bits", model.bits()},
                                    {"parameters", total.parameters},
                                    {"quantized_parameters", quantized.parameters},
                                    {"coverage", coverage.fraction()},
                                    {"bytes", bytes},
                                    {"bits_per_weight", coverage.bits_per_weight()},
                                    {"files", model.files().size()},
                                    {"kinds", std::move(kinds)},
                                    {"notes", model.notes()}};
        std::printf("%s\n", result.dump(1).c_str());
        return;
    }
    std::printf("dialect     %s\n", dialect.c_str());
    std::printf("codebook    %s (%s)\n", model.codebook_name().c_str(), model.codebook_source().c_str());
    std::printf("parameters  %s, %.2f %% of them quantized", console::grouped(total.parameters).c_str(),
                100.0 * coverage.fraction());
    if (quantized.parameters != 0) std::printf(", %.3f bits each", coverage.bits_per_weight());
    std::printf("\nbytes       %s in %zu file%s\n\n%s", console::size_text(static_cast<double>(bytes)).c_str(),
                model.files().size(), model.files().size() == 1 ? "" : "s", coverage.table().c_str());
    for (const std::string& note : model.notes()) std::printf("note: %s\n", note.c_str());
}

}  // namespace

void add_info(CLI::App& app) {
    auto s = std::make_shared<info_settings>();
    CLI::App* command = app.add_subcommand("info", "what a checkpoint is");
    command->add_option("DIR", s->folder, "folder of the checkpoint")->required();
    add_options(*command, static_cast<settings&>(*s));
    command->callback([s] { run(*s); });
}

}  // namespace tool
