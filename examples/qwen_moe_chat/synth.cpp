#include "qwen_moe_chat/synth.hpp"

#include "qwen_moe_chat/utf8.hpp"

#include "hlwq/dispatch/dispatch.hpp"
#include "hlwq/codebook.hpp"
#include "hlwq/error.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/rotation.hpp"
#include "hlwq/io/checkpoint.hpp"
#include "hlwq/io/checksum.hpp"
#include "hlwq/io/recipe.hpp"
#include "hlwq/io/safetensors_writer.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace qwen {

namespace {

namespace fs = std::filesystem;
namespace checkpoint = hlwq::checkpoint;
using hlwq::bfloat16;
using hlwq::safetensors::dtype;
using hlwq::safetensors::planned_tensor;

// Weights that are in memory at once.
constexpr std::size_t weights_once = std::size_t{4} << 20;
constexpr auto codebook = hlwq::codebook_id::legacy_a;
constexpr auto format = checkpoint::format_id::hlwq;

/// The weights of one tensor, each a function of its index.
class generator {
  public:
    generator(const synth_tensor& tensor, std::uint64_t seed) {
        hlwq::io::xxh64 hash(seed);
        hash.update(std::as_bytes(std::span(tensor.name)));
        key_ = hash.digest();
        // The sum of four fields has mean 2 · 65535 and variance 4 · (65536² - 1) / 12.
        unit_ = tensor.deviation / 37837.2f;
        shift_ = static_cast<std::int32_t>(std::lround(tensor.mean / unit_)) - 2 * 65535;
    }

    void fill(std::span<bfloat16> out, std::uint64_t first) const noexcept {
        for (std::size_t i = 0; i < out.size(); ++i) {
            const std::uint64_t word = hlwq::detail::splitmix64(key_ + first + i);
            const auto sum = static_cast<std::int32_t>((word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) +
                                                       (word >> 48));
            // One product, so that no machine contracts it with a sum.
            out[i] = bfloat16(static_cast<float>(sum + shift_) * unit_);
        }
    }

  private:
    std::uint64_t key_;
    float unit_;
    std::int32_t shift_;
};

/// What one tensor of the files holds.
struct output {
    enum class content : std::uint8_t { weights, meta, codes, norms };
    content what = content::weights;
    const synth_tensor* source = nullptr;
    std::uint64_t rows = 0, cols = 0;
    std::uint64_t first = 0;  // index of its first weight in the source
    hlwq::block_format format;
};

/// Everything that will be written.
struct plan {
    nlohmann::ordered_json config;
    std::vector<synth_tensor> tensors;
    std::map<std::string, output> outputs;  // by name
    std::vector<hlwq::safetensors::planned_shard> shards;
    std::vector<checkpoint::layer_record> records;
    synth_size size;
};

plan make_plan(const synth_options& options) {
    plan result;
    result.config = synth_config(options);
    result.tensors = synth_tensors(read_config(nlohmann::json::parse(result.config.dump())));
    std::optional<checkpoint::recipe> recipe;
    if (options.bits) recipe.emplace(checkpoint::policy_id::published_moe, options.bits);
    std::vector<planned_tensor> list;
    for (const synth_tensor& tensor : result.tensors) {
        const std::uint64_t count = *hlwq::safetensors::element_count(tensor.shape);
        result.size.parameters += count;
        const bool packed = recipe && recipe->decide(tensor.name, dtype::bf16, tensor.shape).what ==
                                          checkpoint::decision::action::quantize;
        if (!packed) {
            list.push_back({tensor.name, dtype::bf16, tensor.shape});
            result.outputs[tensor.name] = {output::content::weights, &tensor, 1, count, 0, {}};
            continue;
        }
        const bool fused = tensor.shape.size() == 3;
        output o;
        o.source = &tensor;
        o.rows = tensor.shape[fused ? 1 : 0];
        o.cols = tensor.shape[fused ? 2 : 1];
        o.format.bits = *options.bits;
        o.format.layout = checkpoint::layout_of(format, o.format.bits);
        for (std::uint64_t e = 0; e < (fused ? tensor.shape[0] : 1); ++e) {
            const std::optional<std::uint64_t> slice = fused ? std::optional(e) : std::nullopt;
            const auto keys = checkpoint::packed_names(format, tensor.name, slice, o.rows, o.cols, o.format);
            o.first = e * o.rows * o.cols;
            const std::pair<const planned_tensor*, output::content> parts[] = {{&keys.extra, output::content::meta},
                                                                               {&keys.codes, output::content::codes},
                                                                               {&keys.norms, output::content::norms}};
            for (const auto& part : parts) {
                o.what = part.second;
                list.push_back(*part.first);
                result.outputs[part.first->name] = o;
            }
            result.records.push_back(
                {fused ? checkpoint::slice_name(tensor.name, e) : tensor.name, o.rows, o.cols, o.format});
        }
    }
    result.shards = hlwq::safetensors::plan_shards(std::move(list), options.shard_bytes);
    result.size.files = result.shards.size();
    for (auto& shard : result.shards) {
        for (const auto& tensor : shard.tensors) result.size.bytes += hlwq::safetensors::byte_count(tensor);
        // Eight-byte integers in front, where they are aligned; norms stay directly behind their codes.
        std::stable_partition(shard.tensors.begin(), shard.tensors.end(),
                              [](const planned_tensor& tensor) { return tensor.type == dtype::i64; });
    }
    return result;
}

class synth_writer {
  public:
    synth_writer(const synth_options& options, hlwq::executor_ref threads, const synth_progress& progress)
        : seed_(options.seed), threads_(threads), progress_(progress) {}

    void write(const output& o, hlwq::safetensors::writer& to) {
        switch (o.what) {
            case output::content::weights: return write_weights(o, to);
            case output::content::meta:
                return to.append(checkpoint::extra_bytes(format, o.rows, o.cols, o.format, centroids(o)));
            case output::content::codes: return write_codes(o, to);
            case output::content::norms: return to.append(std::as_bytes(std::span(norms_)));
        }
    }

  private:
    static hlwq::codebook_view centroids(const output& o) { return hlwq::codebook_table(codebook, o.format.bits); }

    /// Weights [first, first + count) of a tensor; valid until the next call.
    std::span<const bfloat16> generate(const generator& random, std::uint64_t first, std::size_t count) {
        weights_.resize(count);
        threads_.parallel_for(count, 4096, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
            random.fill(std::span(weights_).subspan(begin, end - begin), first + begin);
        });
        return weights_;
    }

    void written(const output& o, std::size_t weights, std::size_t bytes) const {
        if (progress_) progress_(weights, bytes, o.source->name);
    }

    void write_weights(const output& o, hlwq::safetensors::writer& to) {
        const generator random(*o.source, seed_);
        for (std::uint64_t done = 0; done < o.cols; done += weights_.size()) {
            const auto part = generate(random, done, std::min<std::uint64_t>(weights_once, o.cols - done));
            to.append(std::as_bytes(part));
            written(o, part.size(), part.size_bytes());
        }
    }

    void write_codes(const output& o, hlwq::safetensors::writer& to) {
        const generator random(*o.source, seed_);
        const std::size_t step = std::max<std::size_t>(1, weights_once / o.cols);
        const std::size_t blocks = o.format.blocks_per_row(o.cols);
        norms_.resize(o.format.norm_count(o.rows, o.cols));
        for (std::size_t begin = 0; begin < o.rows; begin += step) {
            const std::size_t count = std::min<std::size_t>(step, o.rows - begin);
            const auto part = generate(random, o.first + begin * o.cols, count * o.cols);
            codes_.resize(o.format.code_bytes(count, o.cols));
            const hlwq::packed_matrix_target target{
                codes_, {norms_.data() + begin * blocks, count * blocks}, centroids(o), count, o.cols, o.format};
            hlwq::dispatch::quantize(hlwq::matrix_view<const bfloat16>(part.data(), count, o.cols), target,
                                     hlwq::encoder_id::searched, threads_, o.source->name);
            to.append(codes_);
            written(o, part.size(), codes_.size());
        }
    }

    std::uint64_t seed_;
    hlwq::executor_ref threads_;
    const synth_progress& progress_;
    std::vector<bfloat16> weights_;
    std::vector<std::byte> codes_;
    std::vector<hlwq::half> norms_;
};

constexpr const char* chat_template = R"({%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + (message.content | trim) + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- endif %}
)";

constexpr const char* pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// The character that stands for a byte in byte-level vocabularies: itself where it is printable, else one from U+0100.
std::string byte_character(unsigned byte) {
    const auto printable = [](unsigned b) { return (b >= '!' && b <= '~') || (b >= 0xa1 && b != 0xad); };
    if (printable(byte)) return to_utf8(static_cast<char32_t>(byte));
    char32_t other = 0x100;
    for (unsigned b = 0; b < byte; ++b) other += printable(b) ? 0 : 1;
    return to_utf8(other);
}

/// A tokenizer of the 256 bytes, whose ids are their values, and five added tokens behind them.
nlohmann::ordered_json tokenizer_json() {
    nlohmann::ordered_json added = nlohmann::ordered_json::array(), vocabulary = nlohmann::ordered_json::object();
    for (unsigned byte = 0; byte < 256; ++byte) vocabulary[byte_character(byte)] = byte;
    std::size_t id = 256;
    for (const char* name : {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"}) {
        added.push_back({{"id", id++},
                         {"content", name},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", name[1] == '|'}});
    }
    const nlohmann::ordered_json byte_level{
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
    const nlohmann::ordered_json split{
        {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
    return {{"version", "1.0"},
            {"truncation", nullptr},
            {"padding", nullptr},
            {"added_tokens", added},
            {"normalizer", {{"type", "NFC"}}},
            {"pre_tokenizer",
             {{"type", "Sequence"}, {"pretokenizers", nlohmann::ordered_json::array({split, byte_level})}}},
            {"post_processor", byte_level},
            {"decoder", byte_level},
            {"model",
             {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", nullptr},
              {"continuing_subword_prefix", nullptr},
              {"end_of_word_suffix", nullptr},
              {"fuse_unk", false},
              {"byte_fallback", false},
              {"ignore_merges", false},
              {"vocab", vocabulary},
              {"merges", nlohmann::ordered_json::array()}}}};
}

void write_json(const fs::path& path, const nlohmann::ordered_json& json) {
    hlwq::io::write_text_atomically(path, json.dump(1) + "\n");
}

void write_text_files(const fs::path& folder) {
    write_json(folder / "tokenizer.json", tokenizer_json());
    write_json(folder / "tokenizer_config.json", {{"tokenizer_class", "Qwen2Tokenizer"},
                                                  {"add_bos_token", false},
                                                  {"bos_token", nullptr},
                                                  {"eos_token", "<|im_end|>"},
                                                  {"pad_token", "<|endoftext|>"}});
    write_json(folder / "generation_config.json",
               {{"do_sample", false}, {"eos_token_id", {258, 256}}, {"pad_token_id", 256}});
    hlwq::io::write_text_atomically(folder / "chat_template.jinja", chat_template);
}

}  // namespace

synth_size measure_synth(const synth_options& options) { return make_plan(options).size; }

synth_size write_synth(const synth_options& options, const fs::path& folder, hlwq::executor_ref threads,
                       const synth_progress& progress) {
    const plan all = make_plan(options);
    const fs::path mark = folder / checkpoint::unfinished_marker;
    hlwq::io::write_text_atomically(mark, "{\"command\": \"synth\"}\n");
    write_text_files(folder);
    synth_writer writer(options, threads, progress);
    for (const auto& shard : all.shards) {
        hlwq::safetensors::writer file(folder / shard.file, shard.tensors);
        for (const planned_tensor& tensor : shard.tensors) writer.write(all.outputs.at(tensor.name), file);
        file.finish();
    }
    write_json(folder / "config.json", all.config);
    hlwq::safetensors::write_index(folder / "model.safetensors.index.json", hlwq::safetensors::index_of(all.shards));
    if (options.bits) {
        nlohmann::json polar = checkpoint::make_polar_config(format, all.records, codebook);
        polar["encoder"] = "searched";
        hlwq::io::write_text_atomically(folder / "polar_config.json", polar.dump(1) + "\n");
    }
    fs::remove(mark);
    return all.size;
}

}  // namespace qwen
