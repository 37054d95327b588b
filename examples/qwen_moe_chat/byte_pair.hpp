// Byte-pair encoding: the merges of a tokenizer, and the ids of one split
#pragma once

#include "qwen_moe_chat/config.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace qwen {

/// Pairs of ids that become one id, lowest rank first. Constant after the last insert.
class byte_pair_merges {
  public:
    /// Makes room for `count` merges and starts with the ids of the 256 bytes.
    void reset(std::size_t count, const std::array<token_id, 256>& byte_ids);
    /// The next merge: its rank is one higher than the last one's. Of equal pairs the first counts. Throws
    /// hlwq::format_error for pairs that are made to collide.
    void insert(token_id left, token_id right, token_id result);

    /// Appends the ids of a split: in the pair of lowest rank, the leftmost of equals, two ids become one until no pair
    /// is left. Time n log n for n bytes. Throws hlwq::format_error for a split of 4 GiB.
    void encode(std::string_view split, std::vector<token_id>& out) const;

  private:
    using rank = std::uint32_t;
    static constexpr rank none = ~rank{0};
    struct slot {
        std::uint64_t pair;
        rank at;
    };

    std::size_t start(token_id left, token_id right) const noexcept;
    /// Rank of the merge of two ids, or none.
    rank find(token_id left, token_id right) const noexcept;
    void encode_short(std::string_view split, std::vector<token_id>& out) const;
    void encode_long(std::string_view split, std::vector<token_id>& out) const;

    std::array<token_id, 256> byte_ids_{};
    std::vector<slot> slots_;
    std::vector<token_id> results_;  // by rank
};

}  // namespace qwen
