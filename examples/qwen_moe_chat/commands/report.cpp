// report --quantized DIR... --file TEXT [--ablation BITS...] [--out FILE.html]: what quantization did to a model
#include "qwen_moe_chat/ablation.hpp"
#include "qwen_moe_chat/commands/command.hpp"
#include "qwen_moe_chat/evaluation.hpp"
#include "qwen_moe_chat/tokenizer.hpp"

#include "console/page.hpp"
#include "console/progress.hpp"
#include "console/terminal.hpp"

#include "hlwq/dispatch/dispatch.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/io/file.hpp"
#include "hlwq/io/recipe.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace qwen {

namespace {

using console::number;

struct report_options {
    model_options model;
    std::vector<std::filesystem::path> quantized;
    std::filesystem::path text, out;
    std::vector<int> ablation;
    std::size_t tokens = 8192;
    std::size_t window = 512;
    bool json = false;
};

/// Logits of an earlier pass over the same text, in the order in which they were scored.
class kept_logits : public logits_source {
  public:
    explicit kept_logits(std::size_t vocabulary) : vocabulary_(vocabulary) {}
    void keep(matrix_view<const float> rows) {
        values_.insert(values_.end(), rows.data, rows.data + rows.rows * rows.cols);
    }
    /// Begins the text again.
    void rewind() noexcept { next_ = 0; }

    std::size_t vocabulary() const noexcept override { return vocabulary_; }
    void start() override {}
    void feed(std::span<const token_id>) override {}
    matrix_view<const float> logits(std::size_t begin, std::size_t end) override {
        const float* rows = values_.data() + next_ * vocabulary_;
        next_ += end - begin;
        return {rows, end - begin, vocabulary_};
    }

  private:
    std::size_t vocabulary_;
    std::vector<float> values_;
    std::size_t next_ = 0;
};

/// One quantized form of the model.
struct outcome {
    std::string name;
    double relative_mse = 0.0;
    divergence_result result;
};

/// A quantized checkpoint.
struct checkpoint_outcome : outcome {
    hlwq::checkpoint::coverage coverage;
    std::uint64_t bytes = 0;  // all tensors
};

/// Rows of a plain tensor as floats, from row `first` on.
std::vector<float> rows_of(const hlwq::checkpoint::tensor& t, std::size_t first, std::size_t rows, std::size_t cols) {
    using hlwq::safetensors::dtype;
    std::vector<float> values(rows * cols);
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::byte* at = t.bytes.data() + (first * cols + i) * dtype_size(t.dtype);
        if (t.dtype == dtype::f32) {
            std::memcpy(&values[i], at, 4);
            continue;
        }
        std::uint16_t bits = 0;
        std::memcpy(&bits, at, 2);
        values[i] = t.dtype == dtype::f16 ? hlwq::half::to_float(bits) : hlwq::bfloat16::to_float(bits);
    }
    return values;
}

/// The error of a quantized matrix against the tensor it was made from; nothing where the base has no such tensor.
std::optional<hlwq::quantization_error> error_of(const hlwq::checkpoint::tensor& t,
                                                 const hlwq::checkpoint::reader& base, const compute& how) {
    using hlwq::safetensors::dtype;
    const auto* source = base.find(t.slice ? t.slice->fused : t.name);
    if (source == nullptr || source->quantized || source->shape.empty() || source->shape.back() != t.packed.cols)
        return {};
    if (source->dtype != dtype::bf16 && source->dtype != dtype::f16 && source->dtype != dtype::f32) return {};
    const std::size_t rows = source->bytes.size() / dtype_size(source->dtype) / t.packed.cols;
    const std::size_t first = t.slice ? static_cast<std::size_t>(t.slice->index) * t.packed.rows : 0;
    if (first + t.packed.rows > rows || (!t.slice && rows != t.packed.rows)) return {};
    const std::vector<float> exact = rows_of(*source, first, t.packed.rows, t.packed.cols);
    return hlwq::measure_error(matrix_view<const float>(exact.data(), t.packed.rows, t.packed.cols), t.packed,
                               how.threads, t.name);
}

checkpoint_outcome examine(const std::filesystem::path& folder, const hlwq::checkpoint::reader& file,
                           const hlwq::checkpoint::reader& base, const compute& how) {
    using hlwq::checkpoint::decision;
    checkpoint_outcome result;
    result.name = (folder.has_filename() ? folder : folder.parent_path()).filename().string();
    for (const auto& t : file.tensors()) {
        std::uint64_t parameters = 1;
        for (const std::uint64_t size : t.shape) parameters *= size;
        const std::uint64_t bytes =
            t.quantized ? t.packed.codes.size() + t.packed.norms.size() * sizeof(hlwq::half) : t.bytes.size();
        const decision what = t.quantized ? decision{decision::action::quantize, t.packed.format.bits, ""}
                                          : decision{decision::action::keep, 16, ""};
        std::optional<hlwq::quantization_error> error;
        if (t.quantized) error = error_of(t, base, how);
        result.coverage.add(t.name, what, 1, parameters, bytes, error);
        result.bytes += bytes;
    }
    result.relative_mse = result.coverage.total(true).error.relative_mse();
    return result;
}

std::string percent(double share) { return number("%.2f %%", 100.0 * share); }
std::string with_error(const mean_estimate& e) { return number("%.5f", e.mean) + number(" ± %.5f", e.error); }
std::string ppl_text(const perplexity_result& p) { return number("%.4f", p.ppl) + number(" ± %.4f", p.ppl_error); }
std::string change(const outcome& o) {
    return number("%+.2f %%", 100.0 * (o.result.tested.ppl / o.result.base.ppl - 1.0));
}

nlohmann::ordered_json to_json(const outcome& o) {
    return {{"name", o.name},
            {"relative_mse", o.relative_mse},
            {"ppl", o.result.tested.ppl},
            {"ppl_stderr", o.result.tested.ppl_error},
            {"ppl_base", o.result.base.ppl},
            {"kld_mean", o.result.kld.mean},
            {"kld_stderr", o.result.kld.error},
            {"kld_p99", o.result.p99},
            {"same_top1", o.result.same_top1.mean}};
}

struct ablation_outcome {
    int bits = 0;
    std::vector<outcome> variants;
    /// Whether each step alone and both together come out as the method says: both < either < none.
    bool ordered() const {
        const auto kld = [&](std::size_t k) { return variants[k].result.kld.mean; };
        return kld(3) < kld(1) && kld(3) < kld(2) && kld(1) < kld(0) && kld(2) < kld(0);
    }
};

struct report {
    std::string model, text, protocol;
    std::uint64_t base_bytes = 0;
    perplexity_result base;
    std::vector<checkpoint_outcome> checkpoints;
    std::vector<ablation_outcome> ablations;
};

void add_columns(std::vector<std::string>& row, const outcome& o) {
    for (std::string cell : {number("%.3e", o.relative_mse), ppl_text(o.result.tested), change(o),
                             with_error(o.result.kld), percent(o.result.same_top1.mean)}) {
        row.push_back(std::move(cell));
    }
}

const std::vector<std::string> outcome_titles = {"#relative MSE", "#perplexity", "#change", "#KLD, nats",
                                                 "#same top 1"};

std::vector<std::string> titles_behind(std::vector<std::string> first) {
    first.insert(first.end(), outcome_titles.begin(), outcome_titles.end());
    return first;
}

std::vector<std::vector<std::string>> checkpoint_rows(const report& r) {
    std::vector<std::vector<std::string>> rows = {
        {"base", console::size_text(static_cast<double>(r.base_bytes)), "", "", "", ppl_text(r.base), "", "", ""}};
    for (const auto& c : r.checkpoints) {
        std::vector<std::string> row = {c.name, console::size_text(static_cast<double>(c.bytes)),
                                        number("%.3f", c.coverage.bits_per_weight()), percent(c.coverage.fraction())};
        add_columns(row, c);
        rows.push_back(std::move(row));
    }
    return rows;
}

std::vector<std::string> checkpoint_titles() {
    return titles_behind({"checkpoint", "#tensors", "#bits/weight", "#coverage"});
}

std::string bits_text(int bits) { return std::to_string(bits) + " bits"; }

std::string verdict(const ablation_outcome& a) {
    if (a.ordered()) return "Each step alone helps, and both together most.";
    std::string order = "By KLD, best first:";
    std::vector<const outcome*> sorted;
    for (const auto& v : a.variants) sorted.push_back(&v);
    std::ranges::sort(sorted, {}, [](const outcome* o) { return o->result.kld.mean; });
    for (const outcome* o : sorted) order += (o == sorted.front() ? " " : ", ") + o->name;
    return order + ". This is not the order that the method is built on.";
}

/// Columns of text, numbers to the right.
void print_table(const std::vector<std::string>& titles, const std::vector<std::vector<std::string>>& rows) {
    // Width in characters, not bytes: ± has two.
    const auto width_of = [](std::string_view text) {
        return static_cast<std::size_t>(
            std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
    };
    const auto cell_at = [](const std::vector<std::string>& row, std::size_t k) {
        return k < row.size() ? std::string_view(row[k]) : std::string_view();
    };
    std::vector<std::size_t> widths;
    for (const std::string& title : titles) widths.push_back(width_of(title) - (title.starts_with('#') ? 1 : 0));
    for (const auto& row : rows) {
        for (std::size_t k = 0; k < titles.size(); ++k) widths[k] = std::max(widths[k], width_of(cell_at(row, k)));
    }
    const auto print = [&](auto&& cell) {
        std::string line = " ";
        for (std::size_t k = 0; k < titles.size(); ++k) {
            const std::string_view text = cell(k);
            const std::string gap(widths[k] - width_of(text), ' ');
            line.append(" ");
            if (titles[k].starts_with('#')) line += gap;
            line.append(text);
            if (!titles[k].starts_with('#')) line += gap;
            line.append(" ");
        }
        line.erase(line.find_last_not_of(' ') + 1);
        std::printf("%s\n", line.c_str());
    };
    print([&](std::size_t k) { return std::string_view(titles[k]).substr(titles[k].starts_with('#') ? 1 : 0); });
    for (const auto& row : rows) {
        print([&](std::size_t k) { return cell_at(row, k); });
    }
}

std::vector<std::vector<std::string>> ablation_rows(const ablation_outcome& a) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& v : a.variants) add_columns(rows.emplace_back(std::vector<std::string>{v.name}), v);
    return rows;
}

void print_text(const report& r) {
    std::printf("%s on %s, %s, %zu tokens scored\n\n", r.model.c_str(), r.text.c_str(), r.protocol.c_str(),
                r.base.tokens);
    print_table(checkpoint_titles(), checkpoint_rows(r));
    for (const auto& c : r.checkpoints) {
        std::printf("\n%s, relative MSE by kind\n", c.name.c_str());
        std::vector<std::vector<std::string>> rows;
        for (const auto& row : c.coverage.rows()) {
            if (!row.measured) continue;
            rows.push_back({row.kind, bits_text(row.bits), console::grouped(row.parameters),
                            number("%.3e", row.error.relative_mse())});
        }
        print_table({"kind", "width", "#parameters", "#relative MSE"}, rows);
    }
    for (const auto& a : r.ablations) {
        std::printf("\nAblation at %s (%.3f with the scales), nearest values\n", bits_text(a.bits).c_str(),
                    a.bits + 16.0 / 128.0);
        print_table(titles_behind({"quantizer"}), ablation_rows(a));
        std::printf("  %s\n", verdict(a).c_str());
    }
}

void write_page(const report& r, const std::filesystem::path& path) {
    console::page page("Quantization of " + r.model);
    page.facts({{"text", r.text},
                {"protocol", r.protocol},
                {"tokens scored", console::grouped(r.base.tokens)},
                {"base", console::size_text(static_cast<double>(r.base_bytes)) + ", perplexity " + ppl_text(r.base)},
                {"hlwq", std::string(hlwq::version) + ", " + std::string(hlwq::dispatch::isa())}});
    page.heading("Checkpoints");
    page.table(checkpoint_titles(), checkpoint_rows(r));

    const auto chart = [&](const char* title, auto&& list, auto&& length, auto&& text, const char* look) {
        page.heading(title);
        std::vector<console::bar> bars;
        for (const auto& o : list) bars.push_back({o.name, text(o), length(o), look});
        page.bars(bars);
    };
    std::vector<console::bar> sizes = {
        {"base", console::size_text(static_cast<double>(r.base_bytes)), static_cast<double>(r.base_bytes), "kept"}};
    for (const auto& c : r.checkpoints) {
        sizes.push_back(
            {c.name, console::size_text(static_cast<double>(c.bytes)), static_cast<double>(c.bytes), "quantized"});
    }
    page.heading("Bytes");
    page.bars(sizes);
    chart(
        "Kullback-Leibler divergence from the base, nats", r.checkpoints,
        [](const outcome& o) { return o.result.kld.mean; }, [](const outcome& o) { return with_error(o.result.kld); },
        "plain");
    for (const auto& c : r.checkpoints) {
        page.heading(c.name + ": relative mean square error by kind");
        std::vector<console::bar> bars;
        for (const auto& row : c.coverage.rows()) {
            if (!row.measured) continue;
            bars.push_back({row.kind, number("%.3e", row.error.relative_mse()), row.error.relative_mse(), "error"});
        }
        page.bars(bars);
    }
    for (const auto& a : r.ablations) {
        page.heading("Ablation at " + bits_text(a.bits) + " (" + number("%.3f", a.bits + 16.0 / 128.0) +
                     " with the scales)");
        page.paragraph(
            "One code a weight and one 16-bit scale a block of 128 in all four; each value goes to the nearest "
            "level. " +
            verdict(a));
        page.table(titles_behind({"quantizer"}), ablation_rows(a));
        chart(
            "Divergence, nats", a.variants, [](const outcome& o) { return o.result.kld.mean; },
            [](const outcome& o) { return with_error(o.result.kld); }, "plain");
        chart(
            "Perplexity above the base", a.variants,
            [](const outcome& o) { return std::max(0.0, o.result.tested.ppl - o.result.base.ppl); },
            [](const outcome& o) { return change(o); }, "plain");
    }
    hlwq::io::write_text_atomically(path, page.html());
}

void print_json(const report& r) {
    nlohmann::ordered_json json{{"model", r.model},
                                {"text", r.text},
                                {"protocol", r.protocol},
                                {"tokens", r.base.tokens},
                                {"ppl_base", r.base.ppl},
                                {"bytes_base", r.base_bytes},
                                {"checkpoints", nlohmann::ordered_json::array()},
                                {"ablations", nlohmann::ordered_json::array()}};
    for (const auto& c : r.checkpoints) {
        auto entry = to_json(c);
        entry["bytes"] = c.bytes;
        entry["bits_per_weight"] = c.coverage.bits_per_weight();
        entry["coverage"] = c.coverage.fraction();
        entry["kinds"] = nlohmann::ordered_json::parse(c.coverage.to_json().dump());
        json["checkpoints"].push_back(std::move(entry));
    }
    for (const auto& a : r.ablations) {
        nlohmann::ordered_json entry{
            {"bits", a.bits}, {"ordered", a.ordered()}, {"variants", nlohmann::ordered_json::array()}};
        for (const auto& v : a.variants) entry["variants"].push_back(to_json(v));
        json["ablations"].push_back(std::move(entry));
    }
    std::printf("%s\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

void run_report(const report_options& options) {
    const session base(options.model);
    const auto& reader = base.model().file();
    const tokenizer words(options.model.model / "tokenizer.json");
    std::vector<token_id> ids = words.encode(hlwq::io::read_text_file(options.text));
    ids.resize(std::min(ids.size(), options.tokens));
    const window_protocol protocol{scored_tokens::all, options.window, 0};

    report r;
    const auto folder = std::filesystem::weakly_canonical(options.model.model);
    r.model = folder.filename() == "model" ? folder.parent_path().filename().string() : folder.filename().string();
    r.text = options.text.filename().string();
    r.protocol = describe(protocol);
    for (const auto& t : reader.tensors()) r.base_bytes += t.bytes.size();

    const std::size_t passes = 1 + options.quantized.size() + std::size(ablation_variants) * options.ablation.size();
    console::progress bar("report", "tokens", passes * fed_count(windows_of(ids.size(), protocol)), 0);
    std::string at = "base";
    evaluation_watch watch;
    watch.advance = [&](std::size_t tokens) { bar.advance(tokens, 0, at); };

    kept_logits expected(base.model().config().vocabulary);
    model_logits source(base.model(), base.how());
    evaluation_watch first = watch;
    first.logits = [&](matrix_view<const float> rows) { expected.keep(rows); };
    r.base = perplexity(source, ids, protocol, base.how().threads, first);

    const auto compare = [&](const model& tested) {
        expected.rewind();
        model_logits found(tested, base.how());
        return divergence(expected, found, ids, protocol, base.how().threads, watch);
    };
    for (const auto& path : options.quantized) {
        const model tested(path);
        checkpoint_outcome c = examine(path, tested.file(), reader, base.how());
        at = c.name;
        c.result = compare(tested);
        r.checkpoints.push_back(std::move(c));
    }
    for (const int bits : options.ablation) {
        ablation_outcome a;
        a.bits = bits;
        for (const quantizer_variant& variant : ablation_variants) {
            at = std::string(variant.name) + ", " + bits_text(bits);
            const altered_model altered(reader, variant, bits, base.how().threads);
            outcome o;
            o.name = variant.name;
            o.relative_mse = altered.error().relative_mse();
            o.result = compare(altered.model());
            a.variants.push_back(std::move(o));
        }
        r.ablations.push_back(std::move(a));
    }
    bar.clear();

    if (!options.out.empty()) write_page(r, options.out);
    if (options.json) {
        print_json(r);
    } else {
        print_text(r);
    }
}

}  // namespace

void add_report(CLI::App& app) {
    auto* sub = app.add_subcommand("report", "what quantization did to a model: size, errors, perplexity, divergence");
    auto options = std::make_shared<report_options>();
    sub->add_option("--quantized", options->quantized, "folder of a quantized form of the model; may be repeated")
        ->type_name("DIR");
    sub->add_option("--file", options->text, "text to predict")->required()->type_name("TEXT");
    sub->add_option("--ablation", options->ablation,
                    "also quantize with and without rotation and Lloyd-Max centroids at these widths")
        ->check(CLI::Range(2, 8))
        ->type_name("BITS");
    sub->add_option("--tokens", options->tokens, "tokens of the text to use (default 8192)")
        ->check(CLI::Range(std::size_t{2}, std::size_t{1} << 30))
        ->type_name("N");
    sub->add_option("--window", options->window, "tokens of a window (default 512)")
        ->check(CLI::Range(std::size_t{2}, std::size_t{1} << 20))
        ->type_name("N");
    sub->add_option("--out", options->out, "page with charts")->type_name("FILE.html");
    sub->add_flag("--json", options->json, "one JSON object on stdout");
    add_options(*sub, options->model);
    sub->callback([options] { run_report(*options); });
}

}  // namespace qwen
