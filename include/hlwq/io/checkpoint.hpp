// hlwq/io/checkpoint.hpp — a checkpoint folder: every tensor of the model, plain or quantized, in whatever dialect
//
// A folder holds safetensors files with an index or without, config.json, and for most dialects polar_config.json;
// dialects.hpp knows how quantized matrices are spelled in them. Opening checks everything that a reader relies on:
// keys, shapes, element types, norms, codes, and what the configuration says about them. Tensors stay in the mapped
// files; pages that were read for checking are given back.
//
//   throws   format_error (what, where, expected, found); unsupported_error for other formats; io_error
//
// Example
//   const hlwq::checkpoint::reader model("Qwen3.6-35B-A3B-HLWQ-Q5");
//   if (const auto* w = model.find("lm_head.weight"); w != nullptr && w->quantized) hlwq::dequantize(w->packed, out);
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/repack.hpp"
#include "hlwq/error.hpp"
#include "hlwq/io/dialects.hpp"
#include "hlwq/io/file.hpp"
#include "hlwq/io/polar_config.hpp"
#include "hlwq/io/safetensors.hpp"
#include "hlwq/io/tensor_names.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace hlwq::checkpoint {

/// A safetensors file in memory.
struct memory_file {
    std::string name;
    std::span<const std::byte> bytes;
};

inline namespace HLWQ_CODE_NAMESPACE {

/// While this file is in a folder, the checkpoint there is being written, or its writer was interrupted.
inline constexpr std::string_view unfinished_marker = ".hlwq-state.json";

/// An open checkpoint. What it hands out lives as long as the reader.
class reader {
  public:
    explicit reader(const std::filesystem::path& folder) : folder_(folder) {
        refuse_folder();
        model_ = read_json("config.json").value_or(nlohmann::json::object());
        if (auto polar = read_json("polar_config.json")) polar_.emplace(std::move(*polar));
        files_ = std::make_unique<safetensors::sharded_reader>(folder);
        require_whole_series();
        for (const auto& entry : files_->tensors()) add(*entry.tensor, files_->shards()[entry.shard].source());
        open([this](std::span<const std::byte> read) {
            io::mapped_file::release(read);
            if (!read.empty()) return;
            for (const auto& file : files_->shards()) io::mapped_file::release(file.file().bytes());
        });
    }

    /// The same over files in memory, which must outlive the reader; an empty text means that there is no such file.
    reader(std::span<const memory_file> files, std::string_view polar_text, std::string_view config_text) {
        model_ = nlohmann::json::object();
        if (!config_text.empty()) model_ = parse_json_object(config_text, "config.json");
        if (!polar_text.empty()) polar_.emplace(parse_json_object(polar_text, "polar_config.json"));
        for (const memory_file& file : files) {
            for (const auto& tensor : safetensors::parse_header(file.bytes, file.name).tensors) add(tensor, file.name);
        }
        open([](std::span<const std::byte>) {});
    }
    reader(const reader&) = delete;
    reader& operator=(const reader&) = delete;

    const std::filesystem::path& folder() const noexcept { return folder_; }
    /// Quantized matrices in the order of their first key, then plain tensors; both in the order of the files.
    const std::vector<tensor>& tensors() const noexcept { return contents_.tensors; }
    /// Null if the model has no tensor of that name.
    const tensor* find(std::string_view name) const {
        const auto at = by_name_.find(name);
        return at == by_name_.end() ? nullptr : &contents_.tensors[at->second];
    }
    dialect kind() const noexcept { return contents_.kind; }
    /// "legacy-a", "legacy-b", "converged", "custom", "mixed"; "none" for a plain checkpoint.
    const std::string& codebook_name() const noexcept { return contents_.codebook; }
    /// "stored table", "recorded", "fingerprint", "default" or "mixed"; "none" for a plain checkpoint.
    const std::string& codebook_source() const noexcept { return contents_.codebook_source; }
    /// Width of most quantized weights; 0 for a plain checkpoint.
    int bits() const noexcept { return contents_.bits; }
    /// config.json; an empty object where there is none.
    const nlohmann::json& config() const noexcept { return model_; }
    /// polar_config.json; an empty object where there is none.
    const nlohmann::json& polar() const noexcept { return polar_ ? polar_->raw() : no_polar_; }
    /// The mapped safetensors files; their pages may be given back at any time (io::mapped_file::release), unless codes
    /// were repacked. None for a reader over memory.
    std::span<const safetensors::reader> files() const noexcept {
        return files_ ? std::span<const safetensors::reader>(files_->shards()) : std::span<const safetensors::reader>();
    }
    /// Rewrites codes of quantized matrices in another layout, in memory: choose(tensor) names the one that a matrix
    /// shall have. No second copy exists: the pages of codes are read, written, and from then on memory of this program
    /// alone that must not be released; the files stay as they are. Returns the bytes of the codes that were rewritten.
    /// Throws unsupported_error for a reader over memory or a layout of another size, io_error if there is not enough
    /// memory.
    template <class Choose, executor E = serial_executor>
    std::uint64_t repack(Choose choose, E&& ex = {}) {
        return repack(choose, [&](std::span<std::byte> codes, const block_format& format, layout_id to) {
            return repack_in_place(codes, format, to, ex);
        });
    }
    /// The same by a function of the caller's, rewrite(codes, format, layout), which is or does what repack_in_place
    /// does.
    template <class Choose, std::invocable<std::span<std::byte>, const block_format&, layout_id> Rewrite>
    std::uint64_t repack(Choose choose, Rewrite rewrite) {
        std::uint64_t rewritten = 0;
        for (tensor& t : contents_.tensors) {
            if (!t.quantized) continue;
            const layout_id to = choose(std::as_const(t));
            packed_matrix_view& w = t.packed;
            if (to == w.format.layout) continue;
            if (rewritten == 0) make_writable();
            const std::span<std::byte> codes(const_cast<std::byte*>(w.codes.data()), w.codes.size());
            w.format = rewrite(codes, w.format, to);
            rewritten += codes.size();
        }
        return rewritten;
    }
    /// What a user should know about how the files were read.
    const std::vector<std::string>& notes() const noexcept { return contents_.notes; }

  private:
    /// All files, each as a whole: piece by piece the system would run out of entries for maps.
    void make_writable() {
        HLWQ_EXPECTS(files_ != nullptr, unsupported_error, "repack of a checkpoint", "one in files", "one in memory");
        for (const auto& file : files_->shards()) io::mapped_file::make_writable(file.file().bytes());
    }

    void refuse_folder() const {
        namespace fs = std::filesystem;
        std::error_code code;
        if (!fs::is_directory(folder_, code)) return;
        if (fs::exists(folder_ / unfinished_marker, code)) {
            throw_error<format_error>(folder_.string() + ": expected a complete checkpoint, found an unfinished one (" +
                                      std::string(unfinished_marker) + ")");
        }
        std::vector<std::string> variants;
        bool tensors = false;
        fs::directory_iterator entry(folder_, code);
        for (; !code && entry != fs::directory_iterator(); entry.increment(code)) {
            const fs::path& path = entry->path();
            tensors |= path.extension() == ".safetensors";
            std::error_code no_file;
            if (path.filename().string().starts_with("PQ") && fs::exists(path / "codes.safetensors", no_file)) {
                variants.push_back(path.filename().string());
            }
        }
        if (code) throw_io_error(folder_.string(), code.value());
        if (tensors) return;
        std::ranges::sort(variants);
        if (!variants.empty()) {
            throw_error<format_error>(folder_.string() + ": expected the folder of one variant, found " +
                                      detail::name_list(variants));
        }
        if (fs::exists(folder_ / "model_int4.pt", code)) {
            throw_error<unsupported_error>(folder_.string() +
                                           ": expected safetensors files, found model_int4.pt, a torch pickle");
        }
    }

    /// Without an index a missing shard shows only in the names of the others.
    void require_whole_series() const {
        std::error_code code;
        if (std::filesystem::exists(folder_ / "model.safetensors.index.json", code)) return;
        std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> series;  // stem of name -> files, files in all
        for (const auto& shard : files_->shards()) {
            const std::string& stem = shard.source();
            const std::size_t of = stem.rfind("-of-");
            if (of == std::string::npos || of < 6) continue;
            const auto all = shard_number(stem.substr(of + 4, 5)), number = shard_number(stem.substr(of - 5, 5));
            if (!all || !number) continue;
            auto& [found, expected] = series[stem.substr(0, of - 5) + stem.substr(of)];
            ++found;
            expected = *all;
        }
        for (const auto& [stem, counts] : series) {
            if (counts.first != counts.second) {
                throw_error<format_error>(folder_.string() + ": shards " + stem + ": expected " +
                                          std::to_string(counts.second) + " files, found " +
                                          std::to_string(counts.first) + "; the folder is incomplete");
            }
        }
    }

    static std::optional<std::uint64_t> shard_number(std::string_view digits) {
        while (digits.size() > 1 && digits.starts_with('0')) digits.remove_prefix(1);
        return parse_index(digits);
    }

    std::optional<nlohmann::json> read_json(const char* name) const {
        std::error_code code;
        if (!std::filesystem::exists(folder_ / name, code)) return std::nullopt;
        return parse_json_object(io::read_text_file(folder_ / name), name);
    }

    void add(const safetensors::tensor_info& tensor, const std::string& file) {
        stored_.push_back({tensor.name, tensor.type, tensor.shape, tensor.bytes, file});
    }

    void open(const page_release& release) {
        static const polar_config none;
        open_contents(contents_, stored_, polar_ ? *polar_ : none, model_, release);
        for (std::size_t i = 0; i < contents_.tensors.size(); ++i) by_name_.emplace(contents_.tensors[i].name, i);
    }

    std::filesystem::path folder_;
    nlohmann::json model_;
    nlohmann::json no_polar_ = nlohmann::json::object();
    std::optional<polar_config> polar_;
    std::unique_ptr<safetensors::sharded_reader> files_;
    std::vector<stored_tensor> stored_;
    contents contents_;
    std::unordered_map<std::string_view, std::size_t> by_name_;
};

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq::checkpoint
