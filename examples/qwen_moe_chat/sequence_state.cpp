#include "qwen_moe_chat/sequence_state.hpp"

#include "hlwq/error.hpp"
#include "hlwq/float16.hpp"

namespace qwen {

void kv_cache::extend(std::size_t count) {
    if (size_ % kv_page_tokens != 0 && count != 0) pages_.back().write();
    size_ += count;
    const std::size_t needed = (size_ + kv_page_tokens - 1) / kv_page_tokens;
    if (needed > pages_.capacity()) pages_.reserve(std::max<std::size_t>(64, 2 * needed));
    while (pages_.size() < needed) pages_.emplace_back(line_vector<std::byte>(heads_ * head_bytes()));
}

void kv_cache::write(std::size_t first, std::size_t count, const float* keys, const float* values,
                     std::size_t stride) noexcept {
    std::byte* page = pages_[first / kv_page_tokens].own().data();
    const auto append = kernels().append_kv[static_cast<std::size_t>(type_)];
    for (std::size_t head = 0; head < heads_; ++head) {
        append(page + head * head_bytes(), first % kv_page_tokens, keys + head * head_dim_, values + head * head_dim_,
               stride, count, head_dim_);
    }
}

float kv_cache::element(std::size_t token, std::size_t head, std::size_t index) const noexcept {
    const void* from = page(token / kv_page_tokens, head);
    if (type_ == kv_type::f32) return static_cast<const float*>(from)[index];
    const auto bits = static_cast<const std::uint16_t*>(from)[index];
    return type_ == kv_type::f16 ? hlwq::half::to_float(bits) : hlwq::bfloat16::to_float(bits);
}

std::vector<float> kv_cache::key(std::size_t token) const {
    std::vector<float> row;
    for (std::size_t i = 0; i < heads_ * head_dim_; ++i) {
        row.push_back(element(token, i / head_dim_, i % head_dim_ * kv_page_tokens + token % kv_page_tokens));
    }
    return row;
}

std::vector<float> kv_cache::value(std::size_t token) const {
    std::vector<float> row;
    const std::size_t first = kv_page_tokens * head_dim_ + token % kv_page_tokens * kv_value_cols(head_dim_);
    for (std::size_t i = 0; i < heads_ * head_dim_; ++i) {
        row.push_back(element(token, i / head_dim_, first + i % head_dim_));
    }
    return row;
}

sequence_state::sequence_state(const model_config& config, kv_type keys) {
    const attention_config& attention = config.attention;
    layers_.reserve(config.mixers.size() + 1);
    for (const mixer_kind kind : config.mixers) {
        if (kind == mixer_kind::attention) {
            layers_.emplace_back(kv_cache(attention.kv_heads, attention.head_dim, keys));
        } else {
            layers_.emplace_back(gated_delta_net_state(config.gdn));
        }
    }
    layers_.emplace_back(kv_cache(attention.kv_heads, attention.head_dim, keys));
}

sequence_snapshot sequence_state::snapshot() const { return sequence_snapshot(fork()); }

void sequence_state::restore(const sequence_snapshot& snapshot) {
    HLWQ_EXPECTS(snapshot.state_.layers() == layers(), hlwq::shape_error, "snapshot: layers", layers(),
                 snapshot.state_.layers());
    *this = snapshot.state_;
}

}  // namespace qwen
