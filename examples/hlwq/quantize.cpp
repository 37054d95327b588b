// hlwq quantize — a plain checkpoint becomes an HLWQ checkpoint
#include "hlwq/codebook.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/io/checkpoint.hpp"
#include "hlwq/io/checksum.hpp"
#include "hlwq/io/recipe.hpp"
#include "hlwq/thread_pool.hpp"
#include "hlwq/program.hpp"
#include "hlwq/report.hpp"
#include "hlwq/streaming.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tool {

namespace {

namespace fs = std::filesystem;
using hlwq::checkpoint::decision;
using hlwq::checkpoint::format_id;
using hlwq::safetensors::dtype;

constexpr std::size_t block_size = 128;

struct quantize_settings : settings, output_settings {
    std::optional<int> bits, head_bits;
    std::string recipe, policy = "published-moe", encoder = "searched", codebook = "legacy-a", format = "hlwq";
    std::string layout = "wire";
    fs::path report;
    bool keep_unknown = false;
};

/// One matrix to be quantized, or one tensor to be copied.
struct job {
    const hlwq::checkpoint::tensor* source = nullptr;
    std::size_t decision = 0;  // index of its tensor's
    std::optional<std::uint64_t> slice;
    std::uint64_t rows = 0, cols = 0;
    hlwq::block_format format;

    bool quantized() const noexcept { return rows != 0; }
    std::string name() const { return source->name + (slice ? ", expert " + std::to_string(*slice) : std::string()); }
    std::span<const std::byte> bytes() const {
        if (!slice) return source->bytes;
        const std::size_t size = source->bytes.size() / static_cast<std::size_t>(source->shape[0]);
        return source->bytes.subspan(static_cast<std::size_t>(*slice) * size, size);
    }
    std::uint64_t weights() const noexcept {
        return quantized() ? rows * cols : source->bytes.size() / hlwq::safetensors::dtype_size(source->dtype);
    }
};

/// What will be done to which tensor, before anything is done.
struct work {
    std::vector<decision> decisions;  // one per tensor of the model
    std::vector<job> jobs;
    std::vector<piece> pieces;  // one per job
    std::vector<hlwq::checkpoint::layer_record> records;
};

template <class T>
T parse(const std::optional<T>& value, std::string_view option, std::string_view expected, std::string_view found) {
    if (!value) {
        throw usage_error(std::string(option) + ": expected " + std::string(expected) + ", found `" +
                          std::string(found) + "`");
    }
    return *value;
}

struct choices {
    format_id format;
    hlwq::layout_id layout;  // of format hlwq
    hlwq::codebook_id codebook;
    hlwq::encoder_id encoder;
    hlwq::checkpoint::recipe recipe;
};

choices make_choices(const quantize_settings& s, const std::string& recipe_text) {
    const auto policy = parse(hlwq::checkpoint::parse_policy(s.policy), "--policy",
                              "published-moe, package, linear-layers or video", s.policy);
    const auto format = parse(hlwq::checkpoint::parse_format(s.format), "--format", "hlwq or polar-v5", s.format);
    const auto layout = parse(hlwq::checkpoint::parse_layout(s.layout), "--layout", "wire or planes", s.layout);
    if (layout == hlwq::layout_id::planes && format != format_id::hlwq) {
        throw usage_error("--layout planes: expected --format hlwq, found " + s.format);
    }
    if (layout == hlwq::layout_id::planes && !hlwq::planes<1>::allows(block_size)) {
        throw usage_error("--layout planes: expected blocks of a multiple of 128, found " + std::to_string(block_size));
    }
    return {format, layout,
            parse(hlwq::parse_codebook(s.codebook), "--codebook", "legacy-a, legacy-b or converged", s.codebook),
            s.encoder == "nearest" ? hlwq::encoder_id::nearest : hlwq::encoder_id::searched,
            s.recipe.empty() ? hlwq::checkpoint::recipe(policy, s.bits)
                             : hlwq::checkpoint::recipe::parse(recipe_text, policy, s.bits, s.recipe)};
}

/// The matrix that gives the logits: the head, or the embedding where the model has no other head.
void add_head_rule(const hlwq::checkpoint::reader& model, int bits, hlwq::checkpoint::recipe& recipe) {
    for (const std::string_view leaf : {"lm_head", "embed_tokens"}) {
        for (const auto& tensor : model.tensors()) {
            if (!hlwq::checkpoint::has_segment(tensor.name, leaf)) continue;
            recipe.add_rule("^(model\\.|language_model\\.)*" + std::string(leaf) + "\\.weight$", bits, "--head-bits");
            return;
        }
    }
    throw hlwq::unsupported_error("--head-bits: expected a tensor lm_head or embed_tokens, found none");
}

/// Decides about every tensor; what no rule knows is kept or ends the run.
std::vector<decision> decide(const hlwq::checkpoint::reader& model, const choices& chosen, bool keep_unknown) {
    std::vector<decision> decisions;
    std::string unknown;
    std::size_t count = 0;
    for (const auto& tensor : model.tensors()) {
        decision d = chosen.recipe.decide(tensor.name, tensor.dtype, tensor.shape);
        if (d.what == decision::action::unknown) {
            if (keep_unknown) {
                d.what = decision::action::keep;
                d.reason = "unknown, --keep-unknown";
            } else if (++count <= 20) {
                unknown += (count == 1 ? "" : ", ") + tensor.name + " " +
                           hlwq::safetensors::describe(tensor.dtype, tensor.shape);
            }
        }
        const bool nameless =
            chosen.format == format_id::polar_v5 && tensor.shape.size() == 2 && !tensor.name.ends_with(".weight");
        if (d.what == decision::action::quantize && nameless) {
            d = {decision::action::keep, 16, "polar-v5 cannot name a matrix without .weight"};
        }
        decisions.push_back(std::move(d));
    }
    if (count != 0) {
        if (count > 20) unknown += " and " + std::to_string(count - 20) + " more";
        throw hlwq::unsupported_error("large tensors: expected a rule for each (--recipe, or --keep-unknown to keep " +
                                      std::string("them), found none for ") + unknown);
    }
    return decisions;
}

work plan_work(const hlwq::checkpoint::reader& model, const choices& chosen, bool keep_unknown) {
    work result;
    result.decisions = decide(model, chosen, keep_unknown);
    const auto add = [&](const job& j, piece p) {
        p.source = j.source->name;
        p.index = result.jobs.size();
        p.weights = j.weights();
        p.read_bytes = j.bytes().size();
        result.pieces.push_back(std::move(p));
        result.jobs.push_back(j);
    };
    for (std::size_t k = 0; k < model.tensors().size(); ++k) {
        const auto& tensor = model.tensors()[k];
        const decision& d = result.decisions[k];
        job j;
        j.source = &tensor;
        j.decision = k;
        if (d.what != decision::action::quantize) {
            piece p;
            p.outputs.push_back({tensor.name, tensor.dtype, tensor.shape});
            add(j, std::move(p));
            continue;
        }
        const bool fused = tensor.shape.size() == 3;
        j.rows = tensor.shape[fused ? 1 : 0];
        j.cols = tensor.shape[fused ? 2 : 1];
        j.format.bits = d.bits;
        j.format.block = block_size;
        j.format.layout = chosen.layout == hlwq::layout_id::planes ? chosen.layout
                                                                   : hlwq::checkpoint::layout_of(chosen.format, d.bits);
        const std::uint64_t slices = fused ? tensor.shape[0] : 1;
        for (std::uint64_t e = 0; e < slices; ++e) {
            if (fused) j.slice = e;
            const auto keys =
                hlwq::checkpoint::packed_names(chosen.format, tensor.name, j.slice, j.rows, j.cols, j.format);
            piece p;
            p.packed = true;
            for (const auto* key : {&keys.extra, &keys.codes, &keys.norms}) {
                p.outputs.push_back({key->name, key->type, key->shape});
            }
            result.records.push_back(
                {fused ? hlwq::checkpoint::slice_name(tensor.name, e) : tensor.name, j.rows, j.cols, j.format});
            add(j, std::move(p));
        }
    }
    return result;
}

/// Calls `f(typed pointer)` for the element types that weights have.
template <class F>
void with_weights(dtype type, const std::byte* data, F&& f) {
    switch (type) {
        case dtype::bf16: return f(reinterpret_cast<const hlwq::bfloat16*>(data));
        case dtype::f16: return f(reinterpret_cast<const hlwq::half*>(data));
        case dtype::f32: return f(reinterpret_cast<const float*>(data));
        case dtype::f64: return f(reinterpret_cast<const double*>(data));
        default: break;
    }
    throw hlwq::unsupported_error("quantize: expected F64, F32, F16 or BF16 weights, found " +
                                  std::string(hlwq::safetensors::dtype_name(type)));
}

/// The message about a row of a part that begins at row `begin` of its matrix, with the row's number in the matrix.
std::string with_row_moved(const std::string& message, std::size_t begin) {
    constexpr std::string_view mark = ": row ";
    const std::size_t at = message.rfind(mark);
    if (at == std::string::npos) return message;
    const std::size_t first = at + mark.size(), last = message.find_first_not_of("0123456789", first);
    const std::size_t row = std::stoull(message.substr(first, last - first)) + begin;
    return message.substr(0, first) + std::to_string(row) + message.substr(last);
}

class quantizer : public piece_writer {
  public:
    quantizer(const work& all, const choices& chosen, const memory_budget& budget, mapped_pages& pages,
              hlwq::thread_pool& pool, console::progress& bar)
        : work_(all),
          chosen_(chosen),
          budget_(budget),
          pages_(pages),
          pool_(pool),
          bar_(bar),
          errors_(all.jobs.size()),
          measured_(all.jobs.size(), false) {
        // At once, since a vector that grows holds its old and its new memory together.
        std::size_t codes = 0, norms = 0, misaligned = 0;
        for (const job& j : all.jobs) {
            if (!j.quantized()) continue;
            const std::size_t rows = std::min<std::size_t>(j.rows, budget.rows(row_bytes(j)));
            const std::size_t element = hlwq::safetensors::dtype_size(j.source->dtype);
            codes = std::max(codes, j.format.code_bytes(rows, j.cols));
            norms = std::max(norms, j.format.norm_count(j.rows, j.cols));
            if (reinterpret_cast<std::uintptr_t>(j.source->bytes.data()) % element != 0) {
                misaligned = std::max<std::size_t>(misaligned, rows * j.cols * element);
            }
        }
        codes_.resize(codes);
        norms_.reserve(norms);
        copy_.reserve(misaligned);
    }

    /// Bytes that each row of a job needs.
    static std::uint64_t row_bytes(const job& j) {
        // Weights twice, since misaligned ones are copied.
        return 2 * j.cols * hlwq::safetensors::dtype_size(j.source->dtype) + j.format.row_bytes(j.cols) +
               sizeof(hlwq::quantization_error) + 64;
    }
    /// Bytes that a job needs whatever the number of rows: its norms, which wait for the codes, and a row of floats
    /// per worker to measure the error.
    static std::uint64_t fixed_bytes(const job& j, unsigned workers) {
        return j.format.norm_count(j.rows, j.cols) * sizeof(hlwq::half) +
               workers * j.format.padded_cols(j.cols) * sizeof(float);
    }

    void write(const piece& p, std::size_t output, hlwq::safetensors::writer& to) override {
        const job& j = work_.jobs[p.index];
        if (!j.quantized()) {
            copy_tensor(j.source->bytes, p.weights, p.source, pages_, bar_, to);
        } else if (output == 0) {
            to.append(hlwq::checkpoint::extra_bytes(chosen_.format, j.rows, j.cols, j.format, centroids(j)));
        } else if (output == 1) {
            write_codes(j, p, to);
        } else {
            to.append(std::as_bytes(std::span(norms_)));
        }
    }

    nlohmann::json notes(const shard& file) const override {
        nlohmann::json list = nlohmann::json::array();
        for (std::size_t p = file.first_piece; p < file.last_piece; ++p) {
            list.push_back({errors_[p].error, errors_[p].energy});
        }
        return list;
    }
    void restore(const shard& file, const nlohmann::json& notes) override {
        for (std::size_t p = file.first_piece; p < file.last_piece; ++p) {
            const std::size_t k = p - file.first_piece;
            if (!notes.is_array() || k >= notes.size() || notes[k].size() != 2 || !notes[k][0].is_number()) return;
            errors_[p] = {notes[k][0].get<double>(), notes[k][1].get<double>()};
            measured_[p] = true;
        }
    }

    const hlwq::quantization_error* error(std::size_t job_index) const {
        return measured_[job_index] ? &errors_[job_index] : nullptr;
    }

  private:
    hlwq::codebook_view centroids(const job& j) const { return hlwq::codebook_table(chosen_.codebook, j.format.bits); }

    void write_codes(const job& j, const piece& p, hlwq::safetensors::writer& to) {
        norms_.resize(j.format.norm_count(j.rows, j.cols));
        const std::size_t rows = static_cast<std::size_t>(j.rows), cols = static_cast<std::size_t>(j.cols);
        const std::size_t element = hlwq::safetensors::dtype_size(j.source->dtype);
        const std::size_t step = budget_.rows(row_bytes(j));
        const std::size_t blocks = j.format.blocks_per_row(cols);
        const auto bytes = j.bytes();
        hlwq::quantization_error sum;
        for (std::size_t begin = 0; begin < rows; begin += step) {
            check_interrupted();
            const std::size_t end = std::min(rows, begin + step), count = end - begin;
            const auto part = bytes.subspan(begin * cols * element, count * cols * element);
            const hlwq::packed_matrix_target target{{codes_.data(), j.format.code_bytes(count, cols)},
                                                    {norms_.data() + begin * blocks, count * blocks},
                                                    centroids(j),
                                                    count,
                                                    cols,
                                                    j.format};
            try {
                with_weights(j.source->dtype, aligned(part, element), [&](const auto* weights) {
                    const hlwq::matrix_view view(weights, count, cols);
                    hlwq::quantize(view, target, chosen_.encoder, pool_, j.name());
                    sum += hlwq::measure_error(view, target, pool_, j.name());
                });
            } catch (const hlwq::value_error& error) {
                throw hlwq::value_error(with_row_moved(error.what(), begin));
            }
            to.append(target.codes);
            pages_.passed(part.size());
            bar_.advance(count * cols, part.size(), p.source);
        }
        errors_[p.index] = sum;
        measured_[p.index] = true;
    }

    /// The same bytes where elements of that size may lie; safetensors files promise no alignment.
    const std::byte* aligned(std::span<const std::byte> part, std::size_t element) {
        if (reinterpret_cast<std::uintptr_t>(part.data()) % element == 0) return part.data();
        copy_.assign(part.begin(), part.end());
        return copy_.data();
    }

    const work& work_;
    const choices& chosen_;
    const memory_budget& budget_;
    mapped_pages& pages_;
    hlwq::thread_pool& pool_;
    console::progress& bar_;
    std::vector<std::byte> codes_, copy_;
    std::vector<hlwq::half> norms_;
    std::vector<hlwq::quantization_error> errors_;
    std::vector<bool> measured_;
};

/// Table and JSON of what was done; errors only where a writer has measured them.
hlwq::checkpoint::coverage cover(const work& all, const shard_plan& plan, const quantizer* writer) {
    hlwq::checkpoint::coverage coverage;
    for (const piece& p : plan.pieces) {
        const job& j = all.jobs[p.index];
        std::uint64_t bytes = 0;  // of what holds weights: neither meta nor tables
        for (std::size_t k = p.packed ? 1 : 0; k < p.outputs.size(); ++k) {
            bytes += hlwq::safetensors::byte_count(p.outputs[k]);
        }
        const auto* error = writer != nullptr && j.quantized() ? writer->error(p.index) : nullptr;
        coverage.add(j.source->name, all.decisions[j.decision], 1, p.weights, bytes,
                     error != nullptr ? std::optional(*error) : std::nullopt);
    }
    return coverage;
}

struct outcome {
    std::uint64_t bytes_before = 0;
    double seconds = 0.0;
    bool complete = false;
};

void print_result(const quantize_settings& s, const shard_plan& plan, const hlwq::checkpoint::coverage& coverage,
                  const std::string& format, const outcome& end) {
    const auto quantized = coverage.total(true), total = coverage.total();
    if (!s.report.empty()) {
        const auto bytes = [](std::uint64_t count) { return console::size_text(static_cast<double>(count)); };
        char share[64], width[64];
        std::snprintf(share, sizeof share, "%.2f %% quantized", 100.0 * coverage.fraction());
        std::snprintf(width, sizeof width, "%.3f bits per quantized weight", coverage.bits_per_weight());
        write_report(s.report, "Quantization of " + fs::absolute(s.in).lexically_normal().filename().string(),
                     {{"from", s.in.string()},
                      {"to", s.dry_run ? "nothing (dry run)" : s.out.string()},
                      {"format", format + ", codebook " + s.codebook + ", encoder " + s.encoder +
                                     (s.layout == "wire" ? "" : ", layout " + s.layout)},
                      {"parameters", console::grouped(total.parameters) + ", " + share},
                      {"bytes", bytes(end.bytes_before) + " before, " + bytes(plan.tensor_bytes) + " after; " + width}},
                     coverage);
    }
    if (s.json) {
        nlohmann::json result{{"input", s.in.string()},
                              {"output", s.out.string()},
                              {"format", format},
                              {"codebook", s.codebook},
                              {"encoder", s.encoder},
                              {"dry_run", s.dry_run},
                              {"parameters", total.parameters},
                              {"quantized_parameters", quantized.parameters},
                              {"coverage", coverage.fraction()},
                              {"bytes_before", end.bytes_before},
                              {"bytes", plan.tensor_bytes},
                              {"bits_per_weight", coverage.bits_per_weight()},
                              {"relative_mse", nullptr},
                              {"shards", plan.shards.size()},
                              {"seconds", end.seconds},
                              {"peak_rss", peak_resident_set()},
                              {"kinds", coverage.to_json()}};
        if (quantized.measured) result["relative_mse"] = quantized.error.relative_mse();
        std::printf("%s\n", result.dump(1).c_str());
        return;
    }
    std::fputs(coverage.table().c_str(), stdout);
    std::printf("\n%.2f %% of %s parameters quantized, %.3f bits each; %s before, %s after\n",
                100.0 * coverage.fraction(), console::grouped(total.parameters).c_str(), coverage.bits_per_weight(),
                console::size_text(static_cast<double>(end.bytes_before)).c_str(),
                console::size_text(static_cast<double>(plan.tensor_bytes)).c_str());
    if (s.dry_run) {
        std::printf("dry run: nothing was written\n");
    } else if (end.complete) {
        std::printf("%s: %s was complete already\n", s.out.c_str(), format.c_str());
    } else {
        std::printf("%s: %s in %zu file%s; peak memory %s\n", s.out.c_str(), format.c_str(), plan.shards.size(),
                    plan.shards.size() == 1 ? "" : "s",
                    console::size_text(static_cast<double>(peak_resident_set())).c_str());
    }
}

nlohmann::json recorded_options(const quantize_settings& s, const std::string& recipe_text) {
    hlwq::io::xxh64 sum;
    sum.update(std::as_bytes(std::span(recipe_text.data(), recipe_text.size())));
    nlohmann::json options{{"command", "quantize"},
                           {"--bits", nullptr},
                           {"--head-bits", nullptr},
                           {"--recipe", s.recipe.empty() ? nlohmann::json(nullptr) : nlohmann::json(sum.digest())},
                           {"--policy", s.policy},
                           {"--encoder", s.encoder},
                           {"--codebook", s.codebook},
                           {"--format", s.format},
                           {"--layout", s.layout},
                           {"--keep-unknown", s.keep_unknown},
                           {"--shard-size", parse_size(s.shard_size, "--shard-size")}};
    if (s.bits) options["--bits"] = *s.bits;
    if (s.head_bits) options["--head-bits"] = *s.head_bits;
    return options;
}

void run(const quantize_settings& s) {
    const auto start = std::chrono::steady_clock::now();
    const std::uint64_t limit = parse_size(s.max_ram, "--max-ram");
    const std::string recipe_text = s.recipe.empty() ? "" : hlwq::io::read_text_file(s.recipe);
    choices chosen = make_choices(s, recipe_text);
    const nlohmann::json options = recorded_options(s, recipe_text);

    const hlwq::checkpoint::reader model(s.in);
    if (model.kind() != hlwq::checkpoint::dialect::plain) {
        throw hlwq::unsupported_error("IN_DIR " + s.in.string() + ": expected a plain checkpoint, found one in " +
                                      std::string(to_string(model.kind())) + " (hlwq dequantize restores it)");
    }
    if (s.head_bits) add_head_rule(model, *s.head_bits, chosen.recipe);
    mapped_pages pages(model);
    work all = plan_work(model, chosen, s.keep_unknown);
    const shard_plan plan = plan_shards(std::move(all.pieces), parse_size(s.shard_size, "--shard-size"));
    outcome end;
    end.bytes_before = plan.read_bytes;

    std::string format, polar;
    {
        nlohmann::json config =
            hlwq::checkpoint::make_polar_config(chosen.format, all.records, chosen.codebook, block_size);
        config["encoder"] = s.encoder;
        format = config["format"].get<std::string>();
        polar = config.dump(1) + "\n";
        all.records = {};
    }
    if (s.dry_run) return print_result(s, plan, cover(all, plan, nullptr), format, end);

    // Before the folder is touched: too little memory is a mistake of the command line.
    hlwq::thread_pool pool(s.thread_count());
    std::uint64_t row = 0, fixed = 0;
    for (const job& j : all.jobs) {
        if (!j.quantized()) continue;
        row = std::max(row, quantizer::row_bytes(j));
        fixed = std::max(fixed, quantizer::fixed_bytes(j, pool.concurrency()));
    }
    const memory_budget budget(limit, memory_of(plan) + fixed, row);
    pages.set_limit(budget.pages());

    std::vector<std::string> names;
    for (const shard& file : plan.shards) names.push_back(file.name);
    output_folder folder(s, options, identify_input(s.in, tensor_files(model)),
                         {{"model.safetensors.index.json", plan.index}, {"polar_config.json", polar}}, names);
    if (folder.found() == output_folder::stage::complete) {
        end.complete = true;
        return print_result(s, plan, cover(all, plan, nullptr), format, end);
    }
    const carried_files carried = find_carried_files(s.in, tensor_files(model));
    for (const std::string& name : carried.left) remark("not carried over: " + name);
    folder.copy(s.in, carried);

    console::progress bar("quantize", "weights", plan.weights, plan.read_bytes);
    quantizer writer(all, chosen, budget, pages, pool, bar);
    try {
        write_shards(plan, folder, writer, bar);
    } catch (const interrupted&) {
        bar.clear();
        remark("stopped; the same command with --resume goes on");
        throw;
    }
    bar.finish();
    end.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    print_result(s, plan, cover(all, plan, &writer), format, end);
}

}  // namespace

void add_quantize(CLI::App& app) {
    auto s = std::make_shared<quantize_settings>();
    CLI::App* command = app.add_subcommand("quantize", "a plain checkpoint becomes an HLWQ checkpoint");
    add_options(*command, static_cast<output_settings&>(*s));
    command->add_option("--bits", s->bits, "bits per code (default 5; policy package: its own)")
        ->check(CLI::Range(2, 8));
    command
        ->add_option("--head-bits", s->head_bits,
                     "bits of lm_head, or of the embedding where it is the head (default: what the policy says)")
        ->check(CLI::Range(2, 8));
    command->add_option("--recipe", s->recipe, "file of lines `regex = bits` or `regex = keep`, above the policy")
        ->type_name("FILE");
    command->add_option("--policy", s->policy, "published-moe, package, linear-layers or video")
        ->capture_default_str()
        ->type_name("NAME");
    command->add_option("--encoder", s->encoder, "how codes are chosen")
        ->check(CLI::IsMember({"nearest", "searched"}))
        ->capture_default_str();
    command->add_option("--codebook", s->codebook, "table of centroids")
        ->check(CLI::IsMember({"legacy-a", "legacy-b", "converged"}))
        ->capture_default_str();
    command->add_option("--format", s->format, "what is written")
        ->check(CLI::IsMember({"hlwq", "polar-v5"}))
        ->capture_default_str();
    command->add_option("--layout", s->layout, "order of bits in format hlwq; programs of others read wire only")
        ->check(CLI::IsMember({"wire", "planes"}))
        ->capture_default_str();
    command->add_option("--report", s->report, "write a page about the result")->type_name("FILE.html");
    command->add_flag("--keep-unknown", s->keep_unknown, "keep large tensors that no rule knows");
    add_options(*command, static_cast<settings&>(*s));
    command->callback([s] { run(*s); });
}

}  // namespace tool
