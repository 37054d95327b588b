// logits --ids FILE.json [--prefill N] [--chunk N] --out FILE.safetensors: what the model thinks after every token
#include "qwen_moe_chat/commands/command.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"
#include "hlwq/io/json.hpp"
#include "hlwq/io/safetensors_writer.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace qwen {

namespace {

struct logits_options {
    model_options model;
    std::filesystem::path ids, out;
    std::optional<std::size_t> prefill;
    std::size_t chunk = 0;  // 0: the whole prefill at once
};

std::vector<token_id> read_ids(const std::filesystem::path& path) {
    std::string found = "something else";
    const auto json = hlwq::io::parse_json(hlwq::io::read_text_file(path), &found);
    if (!json.is_array() || json.empty()) {
        hlwq::throw_error<hlwq::format_error>(path.string() + ": expected a JSON list of token ids, found " +
                                              (json.is_array() ? "an empty one" : found));
    }
    std::vector<token_id> ids;
    for (const auto& id : json) {
        if (!id.is_number_unsigned() || id.get<std::uint64_t>() > std::numeric_limits<token_id>::max()) {
            hlwq::throw_error<hlwq::format_error>(
                path.string() + ", token " + std::to_string(ids.size()) + ": expected a token id, found " +
                id.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 80));
        }
        ids.push_back(id.get<token_id>());
    }
    return ids;
}

/// Writes the logits of every row of h.
void write_logits(const session& run, matrix_view<const float> h, activations& memory, workspace& space,
                  hlwq::safetensors::writer& out) {
    constexpr std::size_t rows_once = 64;
    for (std::size_t begin = 0; begin < h.rows; begin += rows_once) {
        const std::size_t end = std::min(h.rows, begin + rows_once);
        const auto logits = memory.shape(end - begin, run.model().config().vocabulary);
        run.model().logits(h.rows_between(begin, end), logits, space, run.how());
        out.append(std::as_bytes(std::span<const float>(logits.data, logits.rows * logits.cols)));
    }
}

void run_logits(const logits_options& options) {
    const std::vector<token_id> ids = read_ids(options.ids);
    const session run(options.model);
    const std::size_t prefill = std::min(options.prefill.value_or(ids.size()), ids.size());
    const std::size_t chunk = options.chunk == 0 ? std::max<std::size_t>(prefill, 1) : options.chunk;

    workspace space(run.model().config());
    sequence_state state(run.model().config(), kv_type_for(run.how().mode));
    activations memory;
    hlwq::safetensors::writer out(
        options.out, {{"logits", hlwq::safetensors::dtype::f32, {ids.size(), run.model().config().vocabulary}}});
    for (std::size_t begin = 0, end; begin < ids.size(); begin = end) {
        end = begin < prefill ? std::min(prefill, begin + chunk) : begin + 1;
        const sequence_input input{std::span(ids).subspan(begin, end - begin), &state};
        write_logits(run, run.model().forward({&input, 1}, space, run.how()), memory, space, out);
    }
    out.finish();
}

}  // namespace

void add_logits(CLI::App& app) {
    auto* sub = app.add_subcommand("logits", "logits of every token of a list, as a safetensors file");
    auto options = std::make_shared<logits_options>();
    sub->add_option("--ids", options->ids, "JSON list of token ids")->required()->type_name("FILE.json");
    sub->add_option("--out", options->out, "logits F32 [tokens, vocabulary]")
        ->required()
        ->type_name("FILE.safetensors");
    sub->add_option("--prefill", options->prefill,
                    "tokens that are prefilled, the others follow one by one (default: all)")
        ->check(CLI::NonNegativeNumber)
        ->type_name("N");
    sub->add_option("--chunk", options->chunk, "tokens of a prefill call (default: all of them)")
        ->check(CLI::PositiveNumber)
        ->type_name("N");
    add_options(*sub, options->model);
    sub->callback([options] { run_logits(*options); });
}

}  // namespace qwen
