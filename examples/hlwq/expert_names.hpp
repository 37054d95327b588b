// hlwq/expert_names.hpp — the two spellings of experts in plain checkpoints, and how one becomes the other
//
//   fused    A.experts.gate_up_proj [experts, 2 I, H], gate rows first; A.experts.down_proj [experts, H, I]
//   single   A.experts.<e>.gate_proj.weight [I, H], .up_proj.weight [I, H], .down_proj.weight [H, I]
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tool {

/// "A.experts" and its leaf, for `A.experts.gate_up_proj` or `A.experts.down_proj`.
struct fused_name {
    std::string folder;
    bool gate_up = false;
};
std::optional<fused_name> parse_fused(std::string_view name);
/// The same, for a tensor of three dimensions only.
std::optional<fused_name> parse_fused(std::string_view name, std::span<const std::uint64_t> shape);

/// Rows of one expert's slice that are a matrix of their own.
struct expert_part {
    std::string name;
    std::uint64_t first_row = 0, rows = 0;
};

/// The matrices of expert `e`, whose slice has `rows` rows. Throws format_error if gate and up cannot be told apart.
std::vector<expert_part> expert_parts(const fused_name& fused, std::uint64_t e, std::uint64_t rows);

}  // namespace tool
