// qwen_moe_chat/sequence_state.hpp — what a sequence remembers: keys and values, convolution tails, recurrent memories
//
// Keys and values grow with every token; the recurrent memory of a gated delta net is overwritten by every token and
// cannot be cut back. So a sequence returns to an earlier point only through a snapshot that was taken there.
//
// Snapshots and forks share memory with the state until one of them writes: taking, keeping and restoring one costs
// nothing but pointers, the next token then copies the recurrent memories once (60 MiB for 35B-A3B) and at most one
// page of keys and values per attention layer.
//
//   threads  a state is used by one thread at a time; states that share memory may be used by different threads
//
// Example
//   const sequence_snapshot before = state.snapshot();
//   model.forward({{ids, &state}}, ...);
//   state.restore(before);
#pragma once

#include "qwen_moe_chat/compute.hpp"
#include "qwen_moe_chat/config.hpp"
#include "qwen_moe_chat/kernels.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

namespace qwen {

/// A value that is copied when it is written while somebody else reads it.
template <class T>
class copied_on_write {
  public:
    explicit copied_on_write(T value) : value_(std::make_shared<T>(std::move(value))) {}

    const T& read() const noexcept { return *value_; }
    T& write() {
        if (value_.use_count() != 1) {
            value_ = std::make_shared<T>(*value_);
        } else {
            // The owner before, on another thread, has read before it let go.
            std::atomic_thread_fence(std::memory_order_acquire);
        }
        return *value_;
    }
    /// The value after a `write`, as long as nobody has taken a copy since.
    T& own() noexcept { return *value_; }

  private:
    std::shared_ptr<T> value_;
};

/// State of one gated delta net.
struct gated_delta_net_state {
    explicit gated_delta_net_state(const gated_delta_net_config& config)
        : tail(line_vector<float>((config.kernel - 1) * config.channels())),
          memory(line_vector<float>(config.value_heads * config.key_dim * config.value_dim)) {}

    copied_on_write<line_vector<float>> tail;    // [kernel - 1, channels], the last inputs of the convolution
    copied_on_write<line_vector<float>> memory;  // S [value heads, key dim, value dim]
};

/// Keys and values of one attention layer, in pages of kv_page_tokens tokens. Keys are rotated. A page holds, for each
/// kv head, the keys transposed, [head dim, tokens], and then the values [tokens, head dim] (kernels.hpp).
class kv_cache {
  public:
    kv_cache(std::size_t kv_heads, std::size_t head_dim, kv_type type)
        : heads_(kv_heads), head_dim_(head_dim), type_(type) {}

    std::size_t size() const noexcept { return size_; }
    kv_type type() const noexcept { return type_; }
    std::size_t pages() const noexcept { return pages_.size(); }

    /// Makes room for `count` tokens behind those that are there, to be written by `write`.
    void extend(std::size_t count);
    /// Writes tokens [first, first + count), which are in one page and the room made last: key and value of every kv
    /// head, rows `stride` floats apart. Different workers may write different tokens.
    void write(std::size_t first, std::size_t count, const float* keys, const float* values,
               std::size_t stride) noexcept;

    /// Keys and values of a kv head in page `index`.
    const void* page(std::size_t index, std::size_t head) const noexcept {
        return pages_[index].read().data() + head * head_bytes();
    }
    /// Tokens of page `index`; only the last one may be partly filled.
    std::size_t page_tokens(std::size_t index) const noexcept {
        return std::min(kv_page_tokens, size_ - index * kv_page_tokens);
    }

    /// Key and value of a token, [kv heads, head dim], as floats.
    std::vector<float> key(std::size_t token) const;
    std::vector<float> value(std::size_t token) const;

  private:
    std::size_t head_bytes() const noexcept {
        return kv_head_elements(head_dim_) * (type_ == kv_type::f32 ? sizeof(float) : sizeof(std::uint16_t));
    }
    float element(std::size_t token, std::size_t head, std::size_t index) const noexcept;

    std::size_t heads_, head_dim_;
    kv_type type_;
    std::size_t size_ = 0;
    std::vector<copied_on_write<line_vector<std::byte>>> pages_;
};

/// How keys and values are kept beside products of that precision: exact ones keep f32, the others lose nothing by f16.
inline kv_type kv_type_for(hlwq::precision mode) noexcept {
    return mode == hlwq::precision::exact ? kv_type::f32 : kv_type::f16;
}

using layer_state = std::variant<gated_delta_net_state, kv_cache>;

class sequence_snapshot;

/// The state of one sequence; empty at first.
class sequence_state {
  public:
    /// `keys`: how keys and values are kept. Half the memory and half the reading in f16, at an error of 2^-12.
    explicit sequence_state(const model_config& config, kv_type keys = kv_type::f16);
    sequence_state(sequence_state&&) = default;
    sequence_state& operator=(sequence_state&&) = default;
    ~sequence_state() = default;

    /// Tokens that were consumed.
    std::size_t tokens() const noexcept { return tokens_; }
    /// Position of the next token of text; beyond tokens() only after images.
    std::uint32_t next_position() const noexcept { return next_position_; }

    /// A sequence of its own that begins with the same tokens.
    sequence_state fork() const { return *this; }
    sequence_snapshot snapshot() const;
    void restore(const sequence_snapshot& snapshot);

    gated_delta_net_state& gdn(std::size_t layer) { return std::get<gated_delta_net_state>(layers_[layer]); }
    kv_cache& kv(std::size_t layer) { return std::get<kv_cache>(layers_[layer]); }
    /// The layers of the model, and behind them the multi-token prediction layer, which is an attention layer too.
    std::size_t layers() const noexcept { return layers_.size(); }

    /// Counts tokens that all layers have consumed; `next` is the position of the token after them.
    void advance(std::size_t tokens, std::uint32_t next) noexcept {
        tokens_ += tokens;
        next_position_ = next;
    }

  private:
    sequence_state(const sequence_state&) = default;
    sequence_state& operator=(const sequence_state&) = default;
    friend class sequence_snapshot;

    std::vector<layer_state> layers_;
    std::size_t tokens_ = 0;
    std::uint32_t next_position_ = 0;
};

/// A point in a sequence, to which any state of the same model can be set.
class sequence_snapshot {
  public:
    std::size_t tokens() const noexcept { return state_.tokens(); }

  private:
    friend class sequence_state;
    explicit sequence_snapshot(sequence_state state) : state_(std::move(state)) {}
    sequence_state state_;
};

/// Rows of a call that belong to one sequence.
struct sequence_rows {
    std::size_t begin = 0;
    std::size_t end = 0;
    sequence_state* state = nullptr;
};

}  // namespace qwen
