// qwen_moe_chat/prompt_cache.hpp — snapshots of a sequence, found again by the tokens that led to them
//
// The recurrent memory of a gated delta net cannot be cut back, so the tokens that two prompts have in common are
// reused only up to a point where a snapshot was taken. The longest snapshot whose tokens begin the new prompt wins; at
// least one token is left to be read, for its logits. The snapshots that were not used for longest make room.
//
// A snapshot shares its memory with the state until that goes on (sequence_state.hpp); each then holds recurrent
// memories of its own (60 MiB for 35B-A3B).
#pragma once

#include "qwen_moe_chat/sequence_state.hpp"

#include <cstddef>
#include <list>
#include <span>
#include <vector>

namespace qwen {

class prompt_cache {
  public:
    explicit prompt_cache(std::size_t most = 6) : most_(most) {}

    /// Sets `state` to the longest snapshot that is shorter than `ids` and begins like it, and returns its tokens; 0
    /// and an untouched state if there is none.
    std::size_t restore(std::span<const token_id> ids, sequence_state& state);
    /// Keeps the point that `state` has reached with exactly these tokens.
    void store(std::span<const token_id> ids, const sequence_state& state);

    std::size_t size() const noexcept { return entries_.size(); }
    void clear() noexcept { entries_.clear(); }

  private:
    struct entry {
        std::vector<token_id> ids;
        sequence_snapshot point;
    };
    std::size_t most_;
    std::list<entry> entries_;  // the last used first
};

}  // namespace qwen
