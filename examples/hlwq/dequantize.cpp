// hlwq dequantize — a quantized checkpoint becomes a plain one, under the names of its source
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/io/checkpoint.hpp"
#include "hlwq/io/json.hpp"
#include "hlwq/thread_pool.hpp"
#include "hlwq/expert_names.hpp"
#include "hlwq/program.hpp"
#include "hlwq/streaming.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tool {

namespace {

using hlwq::checkpoint::tensor;
using hlwq::safetensors::dtype;

struct dequantize_settings : settings, output_settings {
    std::string type = "bf16";
    bool unfuse = false;
};

/// Rows of a quantized matrix, or bytes of a plain tensor.
struct part {
    const tensor* source = nullptr;
    std::size_t first_row = 0, rows = 0;
    std::span<const std::byte> bytes;
};

/// What each piece is put together from.
struct restoration {
    std::vector<std::vector<part>> parts;  // by piece
    std::vector<piece> pieces;
    std::uint64_t matrices = 0, fused = 0;
};

class planner {
  public:
    planner(const hlwq::checkpoint::reader& model, dtype type, bool unfuse)
        : model_(model), type_(type), unfuse_(unfuse) {}

    restoration plan() {
        std::map<std::string, std::map<std::uint64_t, const tensor*>> slices;
        for (const tensor& t : model_.tensors()) {
            if (t.slice) slices[t.slice->fused].emplace(t.slice->index, &t);
        }
        for (const tensor& t : model_.tensors()) {
            if (!t.quantized) {
                add_plain(t);
                continue;
            }
            ++result_.matrices;
            if (!t.slice) {
                add_rows(t.name, t, 0, t.packed.rows);
            } else if (unfuse_) {
                add_unfused(t);
            } else if (const auto found = slices.find(t.slice->fused); found != slices.end()) {
                // The whole tensor stands where its first slice is met.
                add_fused(found->first, found->second);
                slices.erase(found);
            }
        }
        return std::move(result_);
    }

  private:
    void add(std::string name, dtype type, std::vector<std::uint64_t> shape, std::vector<part> parts) {
        piece p;
        p.source = name;
        p.index = result_.parts.size();
        for (const part& one : parts) {
            if (one.source->quantized) {
                const auto& w = one.source->packed;
                p.read_bytes += one.rows * (w.format.row_bytes(w.cols) + w.format.blocks_per_row(w.cols) * 2);
                p.weights += one.rows * w.cols;
            } else {
                p.read_bytes += one.bytes.size();
                p.weights += one.bytes.size() / hlwq::safetensors::dtype_size(type);
            }
        }
        p.outputs.push_back({std::move(name), type, std::move(shape)});
        result_.pieces.push_back(std::move(p));
        result_.parts.push_back(std::move(parts));
    }

    void add_rows(const std::string& name, const tensor& t, std::size_t first, std::size_t rows) {
        add(name, type_, {rows, t.packed.cols}, {{&t, first, rows, {}}});
    }

    void add_plain(const tensor& t) {
        const auto fused = unfuse_ ? parse_fused(t.name, t.shape) : std::nullopt;
        if (!fused) return add(t.name, t.dtype, t.shape, {{&t, 0, 0, t.bytes}});
        for (std::uint64_t e = 0; e < t.shape[0]; ++e) {
            for (const expert_part& one : expert_parts(*fused, e, t.shape[1])) {
                const std::size_t row = static_cast<std::size_t>(t.shape[2]) * dtype_size(t.dtype);
                const std::size_t first = static_cast<std::size_t>(e * t.shape[1] + one.first_row) * row;
                add(one.name, t.dtype, {one.rows, t.shape[2]},
                    {{&t, 0, 0, t.bytes.subspan(first, static_cast<std::size_t>(one.rows) * row)}});
            }
        }
    }

    void add_unfused(const tensor& t) {
        const auto fused = parse_fused(t.slice->fused);
        if (!fused) return add_rows(t.name, t, 0, t.packed.rows);
        for (const expert_part& one : expert_parts(*fused, t.slice->index, t.packed.rows)) {
            add_rows(one.name, t, static_cast<std::size_t>(one.first_row), static_cast<std::size_t>(one.rows));
        }
    }

    void add_fused(const std::string& name, const std::map<std::uint64_t, const tensor*>& slices) {
        std::vector<part> parts;
        const tensor& first = *slices.begin()->second;
        for (const auto& [index, slice] : slices) {
            if (index != parts.size()) {
                throw hlwq::format_error("experts of " + name + ": expected slice " + std::to_string(parts.size()) +
                                         ", found " + std::to_string(index) + " (--unfuse restores what is there)");
            }
            if (slice->packed.rows != first.packed.rows || slice->packed.cols != first.packed.cols) {
                throw hlwq::format_error("shape of " + slice->name + " (" + slice->file + "): expected " +
                                         shape_of(first) + " as the other experts, found " + shape_of(*slice));
            }
            parts.push_back({slice, 0, slice->packed.rows, {}});
        }
        ++result_.fused;
        const std::uint64_t count = parts.size();
        add(name, type_, {count, first.packed.rows, first.packed.cols}, std::move(parts));
    }

    static std::string shape_of(const tensor& t) {
        return std::to_string(t.packed.rows) + " x " + std::to_string(t.packed.cols);
    }

    const hlwq::checkpoint::reader& model_;
    dtype type_;
    bool unfuse_;
    restoration result_;
};

class dequantizer : public piece_writer {
  public:
    dequantizer(const restoration& all, dtype type, const memory_budget& budget, mapped_pages& pages,
                hlwq::thread_pool& pool, console::progress& bar)
        : all_(all), type_(type), budget_(budget), pages_(pages), pool_(pool), bar_(bar) {
        // At once, since a vector that grows holds its old and its new memory together.
        std::size_t most = 0;
        for (const auto& parts : all.parts) {
            for (const part& one : parts) {
                if (!one.source->quantized) continue;
                const auto& w = one.source->packed;
                const std::size_t rows = std::min(one.rows, budget.rows(row_bytes(w, type)));
                most = std::max(most, rows * w.cols * hlwq::safetensors::dtype_size(type));
            }
        }
        buffer_.resize(most);
    }

    static std::uint64_t row_bytes(const hlwq::packed_matrix_view& w, dtype type) {
        return w.format.row_bytes(w.cols) + w.format.blocks_per_row(w.cols) * sizeof(hlwq::half) +
               w.cols * hlwq::safetensors::dtype_size(type) + 64;
    }

    void write(const piece& p, std::size_t, hlwq::safetensors::writer& to) override {
        for (const part& one : all_.parts[p.index]) {
            if (!one.source->quantized) {
                copy_tensor(one.bytes, p.weights, p.source, pages_, bar_, to);
                continue;
            }
            switch (type_) {
                case dtype::f32: write_rows<float>(one, p, to); break;
                case dtype::f16: write_rows<hlwq::half>(one, p, to); break;
                default: write_rows<hlwq::bfloat16>(one, p, to); break;
            }
        }
    }
    nlohmann::json notes(const shard&) const override { return nullptr; }
    void restore(const shard&, const nlohmann::json&) override {}

  private:
    template <class T>
    void write_rows(const part& one, const piece& p, hlwq::safetensors::writer& to) {
        const auto& w = one.source->packed;
        const std::size_t step = budget_.rows(row_bytes(w, type_)), end = one.first_row + one.rows;
        const std::size_t row_codes = w.format.row_bytes(w.cols), blocks = w.format.blocks_per_row(w.cols);
        for (std::size_t row = one.first_row; row < end; row += step) {
            check_interrupted();
            const std::size_t count = std::min(step, end - row);
            hlwq::packed_matrix_view rows = w;
            rows.rows = count;
            rows.codes = w.codes.subspan(row * row_codes, count * row_codes);
            rows.norms = w.norms.subspan(row * blocks, count * blocks);
            auto* values = reinterpret_cast<T*>(buffer_.data());
            hlwq::dequantize(rows, hlwq::matrix_view<T>(values, count, w.cols), pool_, one.source->name);
            if (type_ == dtype::f16) expect_finite(values, count, row, *one.source);
            to.append({buffer_.data(), count * w.cols * sizeof(T)});
            const std::size_t read = count * (row_codes + blocks * sizeof(hlwq::half));
            pages_.passed(read);
            bar_.advance(count * w.cols, read, p.source);
        }
    }

    template <class T>
    static void expect_finite(const T* values, std::size_t rows, std::size_t first_row, const tensor& t) {
        for (std::size_t k = 0; k < rows * t.packed.cols; ++k) {
            if (std::isfinite(static_cast<float>(values[k]))) continue;
            throw hlwq::value_error("weight of " + t.name + ": row " + std::to_string(first_row + k / t.packed.cols) +
                                    ", column " + std::to_string(k % t.packed.cols) +
                                    ": expected at most 65504 (--dtype f16), found more");
        }
    }

    const restoration& all_;
    dtype type_;
    const memory_budget& budget_;
    mapped_pages& pages_;
    hlwq::thread_pool& pool_;
    console::progress& bar_;
    std::vector<std::byte> buffer_;
};

/// config.json without what describes a quantization; nothing if it has none.
std::optional<std::string> plain_config(const std::filesystem::path& path) {
    if (!std::filesystem::exists(path)) return std::nullopt;
    auto config = hlwq::io::parse_json<nlohmann::ordered_json>(hlwq::io::read_text_file(path));
    if (!config.is_object()) return std::nullopt;
    std::size_t dropped = 0;
    const auto drop = [&](nlohmann::ordered_json& object) {
        for (const char* key : {"quantization_config", "compression_config"}) dropped += object.erase(key);
    };
    drop(config);
    for (auto& [name, member] : config.items()) {
        if (member.is_object()) drop(member);
    }
    if (dropped == 0) return std::nullopt;
    return config.dump(2) + "\n";
}

void print_result(const dequantize_settings& s, const shard_plan& plan, const restoration& all, double seconds,
                  bool was_complete) {
    if (s.json) {
        const nlohmann::json result{
            {"input", s.in.string()},         {"output", s.out.string()},     {"dtype", s.type},
            {"dry_run", s.dry_run},           {"parameters", plan.weights},   {"tensors", plan.pieces.size()},
            {"matrices", all.matrices},       {"fused_tensors", all.fused},   {"bytes_before", plan.read_bytes},
            {"bytes", plan.tensor_bytes},     {"shards", plan.shards.size()}, {"seconds", seconds},
            {"peak_rss", peak_resident_set()}};
        std::printf("%s\n", result.dump(1).c_str());
        return;
    }
    std::printf("%zu tensors, %s parameters; %s quantized matrices restored as %s", plan.pieces.size(),
                console::grouped(plan.weights).c_str(), console::grouped(all.matrices).c_str(), s.type.c_str());
    if (all.fused != 0) std::printf(", %s fused tensors of experts", console::grouped(all.fused).c_str());
    std::printf("\n%s: %s %s in %zu file%s; peak memory %s\n", s.out.c_str(),
                console::size_text(static_cast<double>(plan.tensor_bytes)).c_str(),
                s.dry_run      ? "would be written"
                : was_complete ? "were complete already"
                               : "written",
                plan.shards.size(), plan.shards.size() == 1 ? "" : "s",
                console::size_text(static_cast<double>(peak_resident_set())).c_str());
}

void run(const dequantize_settings& s) {
    const auto start = std::chrono::steady_clock::now();
    const std::uint64_t limit = parse_size(s.max_ram, "--max-ram");
    const dtype type = s.type == "f32" ? dtype::f32 : s.type == "f16" ? dtype::f16 : dtype::bf16;
    const hlwq::checkpoint::reader model(s.in);
    for (const std::string& note : model.notes()) remark(note);
    mapped_pages pages(model);
    pages.release();
    restoration all = planner(model, type, s.unfuse).plan();
    const std::uint64_t shard_bytes = parse_size(s.shard_size, "--shard-size");
    const shard_plan plan = plan_shards(std::move(all.pieces), shard_bytes);
    if (s.dry_run) return print_result(s, plan, all, 0.0, false);

    const nlohmann::json options{
        {"command", "dequantize"}, {"--dtype", s.type}, {"--unfuse", s.unfuse}, {"--shard-size", shard_bytes}};
    // Before the folder is touched: too little memory is a mistake of the command line.
    hlwq::thread_pool pool(s.thread_count());
    std::uint64_t row = 0, scratch = 0;
    for (const tensor& t : model.tensors()) {
        if (!t.quantized) continue;
        row = std::max(row, dequantizer::row_bytes(t.packed, type));
        scratch = std::max<std::uint64_t>(
            scratch, pool.concurrency() * t.packed.format.padded_cols(t.packed.cols) * sizeof(float));
    }
    const memory_budget budget(limit, memory_of(plan) + scratch, row);
    pages.set_limit(budget.pages());

    std::vector<std::string> names;
    for (const shard& file : plan.shards) names.push_back(file.name);
    output_folder folder(s, options, identify_input(s.in, tensor_files(model)),
                         {{"model.safetensors.index.json", plan.index}}, names);
    if (folder.found() == output_folder::stage::complete) return print_result(s, plan, all, 0.0, true);
    carried_files carried = find_carried_files(s.in, tensor_files(model));
    for (const std::string& name : carried.left) remark("not carried over: " + name);
    for (carried_file& file : carried.files) {
        if (file.name == "config.json") file.content = plain_config(s.in / file.name);
    }
    folder.copy(s.in, carried);

    console::progress bar("dequantize", "weights", plan.weights, plan.read_bytes);
    dequantizer writer(all, type, budget, pages, pool, bar);
    try {
        write_shards(plan, folder, writer, bar);
    } catch (const interrupted&) {
        bar.clear();
        remark("stopped; the same command with --resume goes on");
        throw;
    }
    bar.finish();
    print_result(s, plan, all, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), false);
}

}  // namespace

void add_dequantize(CLI::App& app) {
    auto s = std::make_shared<dequantize_settings>();
    CLI::App* command = app.add_subcommand("dequantize", "a quantized checkpoint becomes a plain one");
    add_options(*command, static_cast<output_settings&>(*s));
    command->add_option("--dtype", s->type, "element type of restored matrices")
        ->check(CLI::IsMember({"bf16", "f16", "f32"}))
        ->capture_default_str();
    command->add_flag("--unfuse", s->unfuse, "one matrix per expert, gate and up apart");
    add_options(*command, static_cast<settings&>(*s));
    command->callback([s] { run(*s); });
}

}  // namespace tool
