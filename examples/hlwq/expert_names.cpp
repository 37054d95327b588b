#include "hlwq/expert_names.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/tensor_names.hpp"

namespace tool {

std::optional<fused_name> parse_fused(std::string_view name) {
    name = hlwq::checkpoint::without_weight(name);
    const std::string_view leaf = hlwq::checkpoint::last_segment(name);
    if ((leaf != "gate_up_proj" && leaf != "down_proj") || leaf.size() == name.size()) return std::nullopt;
    const std::string_view folder = name.substr(0, name.size() - leaf.size() - 1);
    if (hlwq::checkpoint::last_segment(folder) != "experts") return std::nullopt;
    return fused_name{std::string(folder), leaf == "gate_up_proj"};
}

std::optional<fused_name> parse_fused(std::string_view name, std::span<const std::uint64_t> shape) {
    return shape.size() == 3 ? parse_fused(name) : std::nullopt;
}

std::vector<expert_part> expert_parts(const fused_name& fused, std::uint64_t e, std::uint64_t rows) {
    const std::string prefix = fused.folder + "." + std::to_string(e) + ".";
    if (!fused.gate_up) return {{prefix + "down_proj.weight", 0, rows}};
    if (rows % 2 != 0) {
        throw hlwq::format_error("rows of " + prefix + "gate_up_proj: expected an even number, found " +
                                 std::to_string(rows));
    }
    return {{prefix + "gate_proj.weight", 0, rows / 2}, {prefix + "up_proj.weight", rows / 2, rows / 2}};
}

}  // namespace tool
