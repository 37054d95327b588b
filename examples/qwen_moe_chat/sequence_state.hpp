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

#include "qwen_moe_chat/config.hpp"
#include "qwen_moe_chat/ops.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
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

  private:
    std::shared_ptr<T> value_;
};

/// State of one gated delta net.
struct gated_delta_net_state {
    explicit gated_delta_net_state(const gated_delta_net_config& config)
        : tail(std::vector<float>((config.kernel - 1) * config.channels())),
          memory(std::vector<float>(config.value_heads * config.key_dim * config.value_dim)) {}

    copied_on_write<std::vector<float>> tail;    // [kernel - 1, channels], the last inputs of the convolution
    copied_on_write<std::vector<float>> memory;  // S [value heads, key dim, value dim]
};

/// Keys and values of one attention layer, in pages. Keys are rotated.
class kv_cache {
  public:
    static constexpr std::size_t page_tokens = 64;

    explicit kv_cache(std::size_t width) : width_(width) {}

    std::size_t size() const noexcept { return size_; }
    /// Appends room for one token: its key and value, each [kv heads, head dim], to be written.
    std::pair<std::span<float>, std::span<float>> append() {
        const std::size_t at = size_ % page_tokens;
        if (at == 0) pages_.emplace_back(page(2 * page_tokens * width_));
        page& last = pages_.back().write();
        ++size_;
        return {{last.data() + at * width_, width_}, {last.data() + (page_tokens + at) * width_, width_}};
    }
    std::span<const float> key(std::size_t token) const noexcept { return row(token, 0); }
    std::span<const float> value(std::size_t token) const noexcept { return row(token, page_tokens); }
    /// Keys and values of page `index`, each [tokens of the page, width]; only the last page may be partly filled.
    matrix_view<const float> keys(std::size_t index) const noexcept { return rows(index, 0); }
    matrix_view<const float> values(std::size_t index) const noexcept { return rows(index, page_tokens); }

  private:
    using page = std::vector<float>;  // keys, then values

    std::span<const float> row(std::size_t token, std::size_t offset) const noexcept {
        const page& p = pages_[token / page_tokens].read();
        return {p.data() + (offset + token % page_tokens) * width_, width_};
    }
    matrix_view<const float> rows(std::size_t index, std::size_t offset) const noexcept {
        const page& p = pages_[index].read();
        return {p.data() + offset * width_, std::min(page_tokens, size_ - index * page_tokens), width_};
    }

    std::size_t width_;
    std::size_t size_ = 0;
    std::vector<copied_on_write<page>> pages_;
};

using layer_state = std::variant<gated_delta_net_state, kv_cache>;

class sequence_snapshot;

/// The state of one sequence; empty at first.
class sequence_state {
  public:
    explicit sequence_state(const model_config& config);
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
