// hlwq/io/safetensors_writer.hpp — safetensors files written as a stream: shapes first, bytes later
//
//   plan_shards   divides a list of tensors among files of bounded size, before a byte of data exists
//   writer        one file: the header at once, then the data in order, in pieces of any size
//
// The same list gives the same bytes, whoever computes them and in however many pieces. A file appears under its name
// only at `finish`; the index is for the caller to write, last. Tensors keep the order of the list, so a list with an
// odd number of bytes before a wider type gives readers a tensor that is not aligned.
//
//   throws   io_error; shape_error if the pieces do not add up to what the header promised, or the list cannot be
//            written as a header
//
// Example
//   hlwq::safetensors::writer out(path, {{"w", dtype::f32, {2, 3}}});
//   out.append(bytes);
//   out.finish();
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/io/checksum.hpp"
#include "hlwq/io/file.hpp"
#include "hlwq/io/safetensors.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace hlwq::safetensors {

/// A tensor that will be written.
struct planned_tensor {
    std::string name;
    dtype type = dtype::u8;
    std::vector<std::uint64_t> shape;
};

/// One file of a checkpoint that will be written.
struct planned_shard {
    std::string file;
    std::vector<planned_tensor> tensors;
};

/// Bytes of tensor data in a shard, unless one tensor alone is larger.
inline constexpr std::uint64_t default_shard_bytes = 4'000'000'000;

inline namespace HLWQ_CODE_NAMESPACE {

/// Bytes of a tensor; throws shape_error if its shape exceeds 64 bits.
inline std::uint64_t byte_count(const planned_tensor& tensor) {
    const auto count = element_count(tensor.shape);
    std::uint64_t bytes = 0;
    if (!count || __builtin_mul_overflow(*count, std::uint64_t{dtype_size(tensor.type)}, &bytes)) {
        throw_error<shape_error>("tensor " + tensor.name + ": expected a size within 64 bits, found " +
                                 describe(tensor.type, tensor.shape));
    }
    return bytes;
}

namespace detail {

/// `text` as a JSON string; shape_error if it is not UTF-8.
inline std::string json_text(const std::string& text) {
    // The strict mode of dump throws an error that is not ours; the replacing mode shows by a difference what it did.
    const std::string quoted = nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    const auto back = nlohmann::json::parse(quoted, nullptr, false);
    HLWQ_EXPECTS(back.is_string() && back.get_ref<const std::string&>() == text, shape_error,
                 "name " + quote_name(text), "UTF-8", "other bytes");
    return quoted;
}

/// Refuses what a reader of the file or of its index would refuse.
inline void require_unique_names(const std::vector<planned_tensor>& tensors) {
    std::unordered_set<std::string_view> names;
    for (const auto& tensor : tensors) {
        HLWQ_EXPECTS(!tensor.name.empty() && tensor.name != "__metadata__", shape_error, "tensor names",
                     "a name of its own", quote_name(tensor.name));
        HLWQ_EXPECTS(names.insert(tensor.name).second, shape_error, "tensor " + quote_name(tensor.name), "one", "two");
        HLWQ_EXPECTS(tensor.shape.size() <= max_dimensions, shape_error, "dimensions of " + quote_name(tensor.name),
                     "at most " + std::to_string(max_dimensions), tensor.shape.size());
    }
}

}  // namespace detail

/// What stands in front of the data of a file: the length of the JSON, the JSON, padding to a multiple of 8. The data
/// of the tensors follows in their order, without gaps. Throws shape_error for names and shapes that no file can hold.
inline std::string header_bytes(const std::vector<planned_tensor>& tensors,
                                const std::map<std::string, std::string>& metadata) {
    detail::require_unique_names(tensors);
    std::string text(8, '\0');
    const auto entry = [&](const std::string& name) {
        text += (text.size() == 8 ? "{" : ",") + detail::json_text(name) + ":{";
    };
    if (!metadata.empty()) {
        entry("__metadata__");
        for (const auto& [key, value] : metadata) text += detail::json_text(key) + ":" + detail::json_text(value) + ",";
        text.back() = '}';
    }
    std::uint64_t offset = 0;
    for (const auto& tensor : tensors) {
        std::uint64_t end = 0;
        HLWQ_EXPECTS(!__builtin_add_overflow(offset, byte_count(tensor), &end), shape_error,
                     "end of tensor " + detail::quote_name(tensor.name), "within 64 bits", "more");
        entry(tensor.name);
        text.append("\"dtype\":\"").append(dtype_name(tensor.type)).append("\",\"shape\":[");
        for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
            text += (i == 0 ? "" : ",") + std::to_string(tensor.shape[i]);
        }
        text.append("],\"data_offsets\":[").append(std::to_string(offset)).append(",");
        text.append(std::to_string(end)).append("]}");
        offset = end;
    }
    text += text.size() == 8 ? "{}" : "}";
    text.append((8 - text.size() % 8) % 8, ' ');
    const std::uint64_t length = text.size() - 8;
    HLWQ_EXPECTS(length <= max_header_bytes, shape_error, "bytes of header", max_header_bytes, length);
    std::memcpy(text.data(), &length, 8);
    return text;
}

/// Divides tensors, in their order, among as few files as the limit allows: model.safetensors, or
/// model-00001-of-0000N.safetensors and so on.
inline std::vector<planned_shard> plan_shards(std::vector<planned_tensor> tensors,
                                              std::uint64_t limit = default_shard_bytes) {
    detail::require_unique_names(tensors);
    std::vector<planned_shard> shards(1);
    std::uint64_t size = 0;
    for (auto& tensor : tensors) {
        const std::uint64_t bytes = byte_count(tensor);
        if (!shards.back().tensors.empty() && (bytes > limit || size > limit - bytes)) {
            shards.emplace_back();
            size = 0;
        }
        size += bytes;
        shards.back().tensors.push_back(std::move(tensor));
    }
    const auto five = [](std::size_t n) {
        const std::string digits = std::to_string(n);
        return digits.size() < 5 ? std::string(5 - digits.size(), '0') + digits : digits;
    };
    for (std::size_t i = 0; i < shards.size(); ++i) {
        shards[i].file = shards.size() == 1 ? "model.safetensors"
                                            : "model-" + five(i + 1) + "-of-" + five(shards.size()) + ".safetensors";
    }
    return shards;
}

/// The index of planned shards.
inline shard_index index_of(const std::vector<planned_shard>& shards) {
    shard_index index;
    for (const auto& shard : shards) {
        for (const auto& tensor : shard.tensors) {
            index.weight_map.emplace(tensor.name, shard.file);
            index.total_size += byte_count(tensor);
        }
    }
    return index;
}

/// Writes an index file, atomically. Names that are not UTF-8 are a shape_error.
inline void write_index(const std::filesystem::path& path, const shard_index& index) {
    nlohmann::json json;
    json["metadata"]["total_size"] = index.total_size;
    json["weight_map"] = nlohmann::json::object();
    for (const auto& [name, shard] : index.weight_map) {
        detail::json_text(name);
        detail::json_text(shard);
        json["weight_map"][name] = shard;
    }
    io::write_text_atomically(path, json.dump(2) + "\n");
}

/// One safetensors file, written front to back.
class writer {
  public:
    /// Creates the temporary file and writes the header. The metadata default is what Hugging Face readers ask for.
    writer(const std::filesystem::path& path, std::vector<planned_tensor> tensors,
           const std::map<std::string, std::string>& metadata = {{"format", "pt"}})
        : header_(header_bytes(tensors, metadata)), file_(path), tensors_(std::move(tensors)) {
        write(std::as_bytes(std::span(std::as_const(header_))));
        header_ = {};
        next_tensor();
    }

    /// The next bytes of the current tensor; the tensor after it follows when it is full.
    void append(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            if (missing_ == 0) {
                throw_error<shape_error>(file_.path().string() + ": expected no more bytes, found " +
                                         std::to_string(bytes.size()));
            }
            const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(missing_, bytes.size()));
            write(bytes.first(take));
            bytes = bytes.subspan(take);
            missing_ -= take;
            if (missing_ == 0) {
                ++current_;
                next_tensor();
            }
        }
    }

    /// The same, for bytes of `name` only: refuses another tensor's turn and more bytes than are missing.
    void append(std::string_view name, std::span<const std::byte> bytes) {
        if (bytes.empty()) return;  // a tensor without bytes has no turn
        HLWQ_EXPECTS(name == current(), shape_error, file_.path().string() + ": next tensor", current(), name);
        HLWQ_EXPECTS(bytes.size() <= missing_, shape_error, file_.path().string() + ": bytes of " + std::string(name),
                     "at most " + std::to_string(missing_) + " more", bytes.size());
        append(bytes);
    }

    /// Checks that everything was written, and gives the file its name.
    void finish() {
        if (missing_ != 0) {
            throw_error<shape_error>(file_.path().string() + ": tensor " + tensors_[current_].name + ": expected " +
                                     std::to_string(missing_) + " more bytes, found the end");
        }
        file_.commit();
    }

    /// Name of the tensor that the next byte belongs to; empty at the end.
    std::string_view current() const noexcept {
        return current_ < tensors_.size() ? std::string_view(tensors_[current_].name) : std::string_view();
    }
    /// XXH64 of everything written so far, header included.
    std::uint64_t checksum() const noexcept { return sum_.digest(); }
    std::uint64_t written() const noexcept { return file_.written(); }
    /// Leaves the temporary file behind if the writer is destroyed unfinished.
    void keep_partial() noexcept { file_.keep_partial(); }

  private:
    void write(std::span<const std::byte> bytes) {
        file_.write(bytes);
        sum_.update(bytes);
    }
    /// Moves on to the next tensor that has bytes.
    void next_tensor() {
        for (; current_ < tensors_.size(); ++current_) {
            missing_ = byte_count(tensors_[current_]);
            if (missing_ != 0) return;
        }
        missing_ = 0;
    }

    std::string header_;  // before file_: a list that is refused has not touched the disk
    io::atomic_file file_;
    std::vector<planned_tensor> tensors_;
    std::size_t current_ = 0;
    std::uint64_t missing_ = 0;
    io::xxh64 sum_;
};

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq::safetensors
