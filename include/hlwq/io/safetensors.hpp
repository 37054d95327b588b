// hlwq/io/safetensors.hpp — safetensors files: a header that is checked once, and views into the mapped bytes
//
//   8 bytes   length of the header, little-endian
//   header    JSON: {"name": {"dtype": "BF16", "shape": [out, in], "data_offsets": [begin, end]}, ...,
//             "__metadata__": {"key": "value"}}, padded with spaces
//   data      the tensors one behind the other, without gaps
//
// `parse_header` is the only place where offsets are checked; what it returns can be read without further thought. It
// refuses what is not exactly a safetensors file, and never allocates what a file merely claims. Data may start at any
// byte: a tensor is aligned for its type only if all before it have sizes that are multiples of it.
//
//   throws   format_error (what, where, expected, found); io_error if the system refuses
//
// Example
//   hlwq::safetensors::reader file("model.safetensors");
//   const auto* w = file.find("lm_head.weight");      // w->type, w->shape, w->bytes
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"
#include "hlwq/io/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace hlwq::safetensors {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

/// Element types of the format.
enum class dtype : std::uint8_t {
    boolean,
    u8,
    i8,
    f8_e5m2,
    f8_e4m3,
    i16,
    u16,
    f16,
    bf16,
    i32,
    u32,
    f32,
    f64,
    i64,
    u64
};

/// A tensor of a file: name, type, shape, and its bytes in the mapped file.
struct tensor_info {
    std::string name;
    dtype type = dtype::u8;
    std::vector<std::uint64_t> shape;
    std::span<const std::byte> bytes;
};

/// A checked header.
struct header {
    std::vector<tensor_info> tensors;  // in the order of their data
    std::map<std::string, std::string> metadata;
};

/// Longest header that is accepted, as in the reference implementation.
inline constexpr std::uint64_t max_header_bytes = 100'000'000;
/// Most dimensions that are accepted; without a limit, a header of zeros would take eight times its size in memory.
inline constexpr std::size_t max_dimensions = 64;

inline namespace HLWQ_CODE_NAMESPACE {

namespace detail {

struct dtype_entry {
    dtype type;
    std::string_view name;
    std::size_t size;
};
inline constexpr dtype_entry dtype_table[] = {
    {dtype::boolean, "BOOL", 1},    {dtype::u8, "U8", 1},   {dtype::i8, "I8", 1},   {dtype::f8_e5m2, "F8_E5M2", 1},
    {dtype::f8_e4m3, "F8_E4M3", 1}, {dtype::i16, "I16", 2}, {dtype::u16, "U16", 2}, {dtype::f16, "F16", 2},
    {dtype::bf16, "BF16", 2},       {dtype::i32, "I32", 4}, {dtype::u32, "U32", 4}, {dtype::f32, "F32", 4},
    {dtype::f64, "F64", 8},         {dtype::i64, "I64", 8}, {dtype::u64, "U64", 8},
};

}  // namespace detail

/// The name in files: "BF16", "F32", ...
constexpr std::string_view dtype_name(dtype type) noexcept { return detail::dtype_table[static_cast<int>(type)].name; }
/// Bytes of one element.
constexpr std::size_t dtype_size(dtype type) noexcept { return detail::dtype_table[static_cast<int>(type)].size; }
/// The inverse of `dtype_name`.
constexpr std::optional<dtype> parse_dtype(std::string_view name) noexcept {
    for (const auto& entry : detail::dtype_table) {
        if (entry.name == name) return entry.type;
    }
    return std::nullopt;
}

/// Number of elements, or nothing if the product of the extents exceeds 64 bits. Zeros do not excuse the others, so
/// that no part of a shape can overflow later.
constexpr std::optional<std::uint64_t> element_count(std::span<const std::uint64_t> shape) noexcept {
    std::uint64_t product = 1;
    bool empty = false;
    for (const std::uint64_t extent : shape) {
        empty |= extent == 0;
        if (extent != 0 && __builtin_mul_overflow(product, extent, &product)) return std::nullopt;
    }
    return empty ? 0 : product;
}

/// "BF16 [256, 1024, 2048]"
inline std::string describe(dtype type, std::span<const std::uint64_t> shape) {
    std::string text(dtype_name(type));
    text += " [";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
    return text + "]";
}

namespace detail {

/// A name from a file, cut and cleaned for a message.
inline std::string quote_name(std::string_view name) {
    std::string text = "'";
    std::size_t length = std::min<std::size_t>(name.size(), 120);
    while (length < name.size() && length > 0 && (static_cast<unsigned char>(name[length]) & 0xc0) == 0x80) --length;
    for (const char c : name.substr(0, length)) text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    return text + (length < name.size() ? "...'" : "'");
}

/// The sentence for a syntax error.
inline std::string json_problem(std::size_t position, const nlohmann::json::exception& error) {
    const bool encoding = std::string_view(error.what()).find("UTF-8") != std::string_view::npos;
    return "expected JSON in UTF-8, found " + std::string(encoding ? "bytes that are not UTF-8" : "a syntax error") +
           " at byte " + std::to_string(position) + " of it";
}

/// Feeds `text` to `handler`; false leaves the reason in handler.problem.
template <class Handler>
bool parse_json(std::string_view text, Handler& handler) {
    if (const auto at = io::find_zero_byte(text); at != std::string_view::npos) {
        handler.problem = "expected JSON in UTF-8, found a zero byte at byte " + std::to_string(at) + " of it";
        return false;
    }
    return nlohmann::json::sax_parse(text.begin(), text.end(), &handler);
}

/// Collects a header from parse events; nesting is bounded by the states that it knows.
class header_handler : public nlohmann::json_sax<nlohmann::json> {
  public:
    struct raw_tensor {
        std::string name, type;
        std::vector<std::uint64_t> shape, offsets;
        bool has_type = false, has_shape = false, has_offsets = false;
    };
    std::vector<raw_tensor> tensors;
    std::map<std::string, std::string> metadata;
    std::string problem;

    bool null() override { return refuse("null"); }
    bool boolean(bool) override { return refuse("a boolean"); }
    bool number_float(double, const std::string&) override { return refuse("a fraction or a number beyond 64 bits"); }
    bool binary(nlohmann::json::binary_t&) override { return refuse("binary data"); }
    bool number_integer(std::int64_t) override { return refuse("a negative number"); }
    bool number_unsigned(std::uint64_t value) override {
        if (state_ != state::list) return refuse("a number");
        if (list_->size() == max_dimensions) {
            return fail("tensor " + quote_name(tensors.back().name) + ", '" + key_ + "': expected at most " +
                        std::to_string(max_dimensions) + " numbers, found more");
        }
        list_->push_back(value);
        return true;
    }
    bool string(std::string& value) override {
        if (state_ == state::metadata) return metadata_text(value);
        if (state_ != state::tensor || key_ != "dtype") return refuse("a string");
        tensors.back().type = value;
        return true;
    }
    bool start_object(std::size_t) override {
        switch (state_) {
            case state::start: state_ = state::top; return true;
            case state::top: state_ = key_ == "__metadata__" ? state::metadata : state::tensor; return true;
            default: return refuse("an object");
        }
    }
    bool key(std::string& name) override {
        key_ = name;
        if (state_ == state::top) {
            if (name == "__metadata__")
                return !std::exchange(has_metadata_, true) || fail("'__metadata__': expected once, found twice");
            if (name.empty()) return fail("tensor names: expected text, found an empty name");
            tensors.emplace_back().name = name;
        } else if (state_ == state::tensor) {
            auto& tensor = tensors.back();
            bool* seen = name == "dtype"          ? &tensor.has_type
                         : name == "shape"        ? &tensor.has_shape
                         : name == "data_offsets" ? &tensor.has_offsets
                                                  : nullptr;
            if (seen == nullptr)
                return fail("tensor " + quote_name(tensor.name) +
                            ": expected dtype, shape and data_offsets, found key " + quote_name(name));
            if (std::exchange(*seen, true))
                return fail("tensor " + quote_name(tensor.name) + ", '" + name + "': expected once, found twice");
        }
        return true;
    }
    bool end_object() override {
        // Here and not at the end: a file of empty entries would take forty times its size until then.
        if (state_ == state::tensor) {
            const auto& tensor = tensors.back();
            if (!tensor.has_type || !tensor.has_shape || !tensor.has_offsets) {
                return fail("tensor " + quote_name(tensor.name) +
                            ": expected dtype, shape and data_offsets, found no " +
                            (!tensor.has_type    ? "dtype"
                             : !tensor.has_shape ? "shape"
                                                 : "data_offsets"));
            }
        }
        state_ = state_ == state::top ? state::end : state::top;
        return true;
    }
    bool start_array(std::size_t) override {
        if (state_ != state::tensor || key_ == "dtype") return refuse("an array");
        state_ = state::list;
        list_ = key_ == "shape" ? &tensors.back().shape : &tensors.back().offsets;
        return true;
    }
    bool end_array() override {
        state_ = state::tensor;
        return true;
    }
    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) override {
        return fail(json_problem(position, error));
    }

  private:
    enum class state : std::uint8_t { start, top, metadata, tensor, list, end };

    bool fail(std::string text) {
        if (problem.empty()) problem = std::move(text);
        return false;
    }
    bool refuse(std::string_view found) {
        const bool in_tensor = state_ == state::tensor || state_ == state::list;
        const std::string where = state_ == state::start      ? "the JSON"
                                  : state_ == state::metadata ? "'__metadata__', " + quote_name(key_)
                                  : in_tensor ? "tensor " + quote_name(tensors.back().name) + ", " + quote_name(key_)
                                              : quote_name(key_);
        const std::string_view expected = state_ == state::start      ? "an object"
                                          : state_ == state::top      ? "an object"
                                          : state_ == state::metadata ? "a string"
                                          : state_ == state::list     ? "non-negative integers"
                                          : key_ == "dtype"           ? "a string"
                                                                      : "a list";
        return fail(where + ": expected " + std::string(expected) + ", found " + std::string(found));
    }
    bool metadata_text(std::string& value) {
        return metadata.emplace(key_, value).second ||
               fail("'__metadata__', " + quote_name(key_) + ": expected once, found twice");
    }

    state state_ = state::start;
    std::string key_;
    std::vector<std::uint64_t>* list_ = nullptr;
    bool has_metadata_ = false;
};

[[noreturn]] HLWQ_COLD inline void refuse(std::string_view source, const std::string& problem) {
    throw_error<format_error>("safetensors header of " + std::string(source) + ": " + problem);
}

/// Type, shape and offsets of one tensor against each other; offsets are within `data`.
inline tensor_info checked_tensor(header_handler::raw_tensor& raw, std::span<const std::byte> data,
                                  std::string_view source) {
    const std::string where = "tensor " + quote_name(raw.name);
    const auto type = parse_dtype(raw.type);
    if (!type) refuse(source, where + ", dtype: expected one of the format's types, found " + quote_name(raw.type));
    if (raw.offsets.size() != 2) {
        refuse(source, where + ", data_offsets: expected 2 numbers, found " + std::to_string(raw.offsets.size()));
    }
    const std::uint64_t begin = raw.offsets[0], end = raw.offsets[1];
    if (begin > end || end > data.size()) {
        refuse(source, where + ", data_offsets: expected a range within " + std::to_string(data.size()) +
                           " bytes of data, found " + std::to_string(begin) + " to " + std::to_string(end));
    }
    const auto count = element_count(raw.shape);
    std::uint64_t bytes = 0;
    if (!count || __builtin_mul_overflow(*count, std::uint64_t{dtype_size(*type)}, &bytes)) {
        refuse(source, where + ", shape: expected a size within 64 bits, found " + describe(*type, raw.shape));
    }
    if (bytes != end - begin) {
        refuse(source, where + ": expected " + std::to_string(bytes) + " bytes for " + describe(*type, raw.shape) +
                           ", found " + std::to_string(end - begin));
    }
    return {std::move(raw.name), *type, std::move(raw.shape), data.subspan(begin, bytes)};
}

}  // namespace detail

/// Parses and checks the header of a whole file in memory; the spans in the result point into `file`. `source` names
/// the file in messages.
inline header parse_header(std::span<const std::byte> file, std::string_view source) {
    if (file.size() < 8) {
        detail::refuse(source, "expected at least 8 bytes, found " + std::to_string(file.size()));
    }
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), 8);
    if (length > max_header_bytes || length > file.size() - 8) {
        detail::refuse(source, "length of the header: expected at most " +
                                   std::to_string(std::min<std::uint64_t>(max_header_bytes, file.size() - 8)) +
                                   ", found " + std::to_string(length));
    }
    const auto* text = reinterpret_cast<const char*>(file.data()) + 8;
    detail::header_handler handler;
    // The format asks for this byte; the parser would skip white space and a byte order mark.
    if (length == 0 || text[0] != '{') detail::refuse(source, "the JSON: expected '{' at its first byte, found none");
    if (!detail::parse_json({text, length}, handler)) detail::refuse(source, handler.problem);
    const std::span<const std::byte> data = file.subspan(8 + length);
    header result;
    result.metadata = std::move(handler.metadata);
    result.tensors.reserve(handler.tensors.size());
    for (auto& raw : handler.tensors) result.tensors.push_back(detail::checked_tensor(raw, data, source));

    std::vector<std::string_view> names;
    names.reserve(result.tensors.size());
    for (const auto& tensor : result.tensors) names.push_back(tensor.name);
    std::ranges::sort(names);
    if (const auto twice = std::ranges::adjacent_find(names); twice != names.end()) {
        detail::refuse(source, "tensor " + detail::quote_name(*twice) + ": expected once, found twice");
    }
    // Empty tensors may lie on any boundary; the others tile the data.
    std::ranges::stable_sort(result.tensors, {}, [&](const tensor_info& t) {
        return std::pair(t.bytes.data() - data.data(), t.bytes.size());
    });
    std::size_t covered = 0;
    for (const auto& tensor : result.tensors) {
        const auto begin = static_cast<std::size_t>(tensor.bytes.data() - data.data());
        if (begin != covered) {
            detail::refuse(source, "tensor " + detail::quote_name(tensor.name) + ": expected its data at byte " +
                                       std::to_string(covered) + ", found " + std::to_string(begin) +
                                       (begin < covered ? " (overlap)" : " (gap)"));
        }
        covered += tensor.bytes.size();
    }
    if (covered != data.size()) {
        detail::refuse(source,
                       "expected " + std::to_string(covered) + " bytes of data, found " + std::to_string(data.size()));
    }
    return result;
}

/// One safetensors file, mapped.
class reader {
  public:
    /// Maps and checks `path`.
    explicit reader(const std::filesystem::path& path) : file_(path), source_(path.filename().string()) {
        adopt(parse_header(file_.bytes(), source_));
    }
    /// Reads memory of the caller, which must outlive the reader.
    reader(std::span<const std::byte> file, std::string source) : source_(std::move(source)) {
        adopt(parse_header(file, source_));
    }

    /// In the order of their data.
    const std::vector<tensor_info>& tensors() const noexcept { return header_.tensors; }
    const std::map<std::string, std::string>& metadata() const noexcept { return header_.metadata; }
    /// File name, for messages.
    const std::string& source() const noexcept { return source_; }
    /// The mapped file; empty for a reader over memory.
    const io::mapped_file& file() const noexcept { return file_; }
    /// Gives the pages of `part` back; a reader over memory does nothing.
    void release(std::span<const std::byte> part) const noexcept {
        if (!file_.bytes().empty()) io::mapped_file::release(part);
    }

    /// Null if there is no such tensor.
    const tensor_info* find(std::string_view name) const {
        const auto at = by_name_.find(std::string(name));
        return at == by_name_.end() ? nullptr : &header_.tensors[at->second];
    }

  private:
    void adopt(header parsed) {
        header_ = std::move(parsed);
        for (std::size_t i = 0; i < header_.tensors.size(); ++i) by_name_.emplace(header_.tensors[i].name, i);
    }
    io::mapped_file file_;
    std::string source_;
    header header_;
    std::unordered_map<std::string, std::size_t> by_name_;
};

/// model.safetensors.index.json: which shard holds which tensor.
struct shard_index {
    std::map<std::string, std::string> weight_map;  // tensor -> file name
    std::uint64_t total_size = 0;
};

namespace detail {

/// Whether a shard's name stays in its folder.
inline bool is_plain_file_name(std::string_view name) {
    return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos &&
           name.find('\\') == name.npos && name.find('\0') == name.npos;
}

/// Collects an index from parse events; values that it does not know are skipped, to a bounded depth.
class index_handler : public nlohmann::json_sax<nlohmann::json> {
  public:
    shard_index index;
    bool has_map = false;
    std::string problem;

    bool null() override { return value("null"); }
    bool boolean(bool) override { return value("a boolean"); }
    bool number_integer(std::int64_t) override { return value("a number"); }
    bool number_float(double, const std::string&) override { return value("a number"); }
    bool binary(nlohmann::json::binary_t&) override { return value("binary data"); }
    bool number_unsigned(std::uint64_t number) override {
        if (depth_ == 2 && section_ == "metadata" && key_ == "total_size") index.total_size = number;
        return value("a number");
    }
    bool string(std::string& text) override {
        if (depth_ != 2 || section_ != "weight_map") return value("a string");
        if (!is_plain_file_name(text)) return refuse("a plain file name", quote_name(text));
        if (const auto [at, added] = index.weight_map.emplace(key_, text); !added) {
            return refuse("one shard", quote_name(at->second) + " and " + quote_name(text));
        }
        return true;
    }
    bool start_object(std::size_t) override {
        if (depth_ == 1 && section_ == "weight_map") {
            if (has_map) return fail("'weight_map': expected once, found twice");
            has_map = true;
            return enter();
        }
        return (depth_ == 0 || value("an object")) && enter();
    }
    bool start_array(std::size_t) override { return value("an array") && enter(); }
    bool key(std::string& name) override {
        (depth_ == 1 ? section_ : key_) = name;
        return true;
    }
    bool end_object() override { return --depth_, true; }
    bool end_array() override { return --depth_, true; }
    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) override {
        return fail(json_problem(position, error));
    }

  private:
    bool fail(std::string text) {
        problem = std::move(text);
        return false;
    }
    bool refuse(const std::string& expected, const std::string& found) {
        return fail("shard of tensor " + quote_name(key_) + ": expected " + expected + ", found " + found);
    }
    /// A value of no interest, unless it stands where the map or a shard's name belongs.
    bool value(const std::string& found) {
        if (depth_ == 0) return fail("the JSON: expected an object, found " + found);
        if (section_ != "weight_map") return true;
        return depth_ == 1 ? fail("'weight_map': expected an object, found " + found)
                           : refuse("a plain file name", found);
    }
    bool enter() { return ++depth_ <= 64 || fail("the JSON: expected at most 64 levels, found more"); }

    int depth_ = 0;
    std::string section_, key_;
};

}  // namespace detail

/// Reads an index file.
inline shard_index read_index(const std::filesystem::path& path) {
    const std::string text = io::read_text_file(path, max_header_bytes);
    detail::index_handler handler;
    if (detail::parse_json(text, handler) && !handler.has_map) {
        handler.problem = "expected an object 'weight_map', found none";
    }
    if (!handler.problem.empty()) {
        throw_error<format_error>("shard index " + path.filename().string() + ": " + handler.problem);
    }
    return std::move(handler.index);
}

/// All safetensors files of a folder as one: by the index, else model.safetensors, else every *.safetensors.
class sharded_reader {
  public:
    explicit sharded_reader(const std::filesystem::path& folder) {
        namespace fs = std::filesystem;
        std::error_code code;
        if (!fs::is_directory(folder, code)) throw_io_error(folder.string() + ": not a directory", ENOTDIR);
        const fs::path index_path = folder / "model.safetensors.index.json";
        // Of the link, if it is one: a broken link must not select another set of files.
        const auto present = [&](const fs::path& path) { return fs::exists(fs::symlink_status(path, code)); };
        if (present(index_path)) {
            open_by_index(folder, read_index(index_path));
            return;
        }
        std::vector<fs::path> paths;
        if (present(folder / "model.safetensors")) {
            paths.push_back(folder / "model.safetensors");
        } else {
            for (fs::directory_iterator file(folder, code), end; !code && file != end; file.increment(code)) {
                if (file->path().extension() == ".safetensors") paths.push_back(file->path());
            }
            if (code) throw_io_error(folder.string(), code.value());
            std::ranges::sort(paths);
        }
        if (paths.empty()) throw_io_error(folder.string() + ": expected *.safetensors, found none", ENOENT);
        for (const auto& path : paths) shards_.emplace_back(path);
        collect();
    }

    const std::vector<reader>& shards() const noexcept { return shards_; }
    /// Every tensor with the number of its shard, in the order of shards and data.
    struct entry {
        const tensor_info* tensor;
        std::size_t shard;
    };
    const std::vector<entry>& tensors() const noexcept { return tensors_; }
    const tensor_info* find(std::string_view name) const {
        const auto at = by_name_.find(std::string(name));
        return at == by_name_.end() ? nullptr : tensors_[at->second].tensor;
    }

  private:
    void open_by_index(const std::filesystem::path& folder, const shard_index& index) {
        std::vector<std::string> names;
        for (const auto& [tensor, shard] : index.weight_map) names.push_back(shard);
        std::ranges::sort(names);
        names.erase(std::unique(names.begin(), names.end()), names.end());
        for (const auto& name : names) shards_.emplace_back(folder / name);
        collect();
        for (const auto& [tensor, shard] : index.weight_map) {
            const auto at = by_name_.find(tensor);
            if (at == by_name_.end() || shards_[tensors_[at->second].shard].source() != shard) {
                throw_error<format_error>(
                    "shard index: tensor " + detail::quote_name(tensor) + ": expected in " + shard + ", found " +
                    (at == by_name_.end() ? "nowhere" : "in " + shards_[tensors_[at->second].shard].source()));
            }
        }
        for (const auto& [tensor, shard] : tensors_) {
            if (!index.weight_map.contains(tensor->name)) {
                throw_error<format_error>("shard index: tensor " + detail::quote_name(tensor->name) + " of " +
                                          shards_[shard].source() + ": expected in the index, found no entry");
            }
        }
    }
    void collect() {
        for (std::size_t shard = 0; shard < shards_.size(); ++shard) {
            for (const auto& tensor : shards_[shard].tensors()) {
                const auto [at, added] = by_name_.emplace(tensor.name, tensors_.size());
                if (!added) {
                    throw_error<format_error>(
                        "tensor " + detail::quote_name(tensor.name) + ": expected in one file, found in " +
                        shards_[tensors_[at->second].shard].source() + " and " + shards_[shard].source());
                }
                tensors_.push_back({&tensor, shard});
            }
        }
    }

    std::vector<reader> shards_;
    std::vector<entry> tensors_;
    std::unordered_map<std::string, std::size_t> by_name_;
};

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq::safetensors
