#include "qwen_moe_chat/saved_logits.hpp"

#include "hlwq/error.hpp"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace qwen {

namespace {

using hlwq::safetensors::dtype;
using hlwq::safetensors::tensor_info;

std::vector<hlwq::safetensors::planned_tensor> plan(std::size_t tokens, std::size_t scored, std::size_t vocabulary) {
    return {{"ids", dtype::i64, {tokens}}, {"logits", dtype::f32, {scored, vocabulary}}};
}

const tensor_info& fetch(const hlwq::safetensors::reader& file, const char* name, dtype type, std::size_t rank) {
    const tensor_info* t = file.find(name);
    const std::string where = file.source() + ": " + name;
    const std::string expected =
        std::string(hlwq::safetensors::dtype_name(type)) + (rank == 1 ? " [tokens]" : " [scored, vocabulary]");
    HLWQ_EXPECTS(t != nullptr, hlwq::format_error, where, expected, "no such tensor");
    HLWQ_EXPECTS(t->type == type && t->shape.size() == rank, hlwq::format_error, where, expected,
                 hlwq::safetensors::describe(t->type, t->shape));
    // A file that was not written here may have put its data anywhere.
    HLWQ_EXPECTS(reinterpret_cast<std::uintptr_t>(t->bytes.data()) % hlwq::safetensors::dtype_size(type) == 0,
                 hlwq::format_error, where, "data aligned to its type", "other data");
    return *t;
}

}  // namespace

logits_writer::logits_writer(const std::filesystem::path& path, std::span<const token_id> ids,
                             const window_protocol& protocol, std::size_t vocabulary)
    : file_(path, plan(ids.size(), scored_count(windows_of(ids.size(), protocol)), vocabulary),
            {{"format", "pt"}, {"protocol", describe(protocol)}}) {
    const std::vector<std::int64_t> wide(ids.begin(), ids.end());
    file_.append(std::as_bytes(std::span(wide)));
}

void logits_writer::append(matrix_view<const float> rows) {
    for (std::size_t r = 0; r < rows.rows; ++r) file_.append(std::as_bytes(rows.row(r)));
}

saved_logits::saved_logits(const std::filesystem::path& path, std::span<const token_id> ids,
                           const window_protocol& protocol)
    : file_(path) {
    const auto& metadata = file_.metadata();
    const auto recorded = metadata.find("protocol");
    HLWQ_EXPECTS(recorded != metadata.end() && recorded->second == describe(protocol), hlwq::format_error,
                 file_.source() + ": protocol", describe(protocol),
                 recorded == metadata.end() ? std::string("none") : recorded->second);
    const tensor_info& text = fetch(file_, "ids", dtype::i64, 1);
    HLWQ_EXPECTS(text.shape[0] == ids.size(), hlwq::format_error, file_.source() + ": tokens of the text", ids.size(),
                 text.shape[0]);
    for (std::size_t t = 0; t < ids.size(); ++t) {
        std::int64_t id;
        std::memcpy(&id, text.bytes.data() + t * sizeof id, sizeof id);
        HLWQ_EXPECTS(id == static_cast<std::int64_t>(ids[t]), hlwq::format_error,
                     file_.source() + ": token " + std::to_string(t) + " of the text", ids[t], id);
    }
    const tensor_info& logits = fetch(file_, "logits", dtype::f32, 2);
    const std::size_t scored = scored_count(windows_of(ids.size(), protocol));
    HLWQ_EXPECTS(logits.shape[0] == scored, hlwq::format_error, file_.source() + ": rows of logits", scored,
                 logits.shape[0]);
    vocabulary_ = logits.shape[1];
    rows_ = logits.bytes;
}

matrix_view<const float> saved_logits::logits(std::size_t begin, std::size_t end) {
    file_.release(read_);
    const std::size_t count = end - begin;
    read_ = rows_.first(count * vocabulary_ * sizeof(float));
    rows_ = rows_.subspan(read_.size());
    return {reinterpret_cast<const float*>(read_.data()), count, vocabulary_};
}

}  // namespace qwen
