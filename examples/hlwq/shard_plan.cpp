#include "hlwq/shard_plan.hpp"

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <utility>

namespace tool {

namespace {

std::string in_quotes(std::string_view text) { return nlohmann::json(text).dump(); }

int rank(const piece& p, std::size_t output) {
    switch (hlwq::safetensors::dtype_size(p.outputs[output].type)) {
        case 8: return 0;
        case 4: return 1;
        case 1: return p.packed ? 2 : 3;
        default: return 2;
    }
}

std::string index_of(const shard_plan& plan) {
    std::vector<std::pair<std::string_view, std::string_view>> files;
    for (const shard& file : plan.shards) {
        for (const placement& at : file.order) {
            files.emplace_back(plan.pieces[at.piece].outputs[at.output].name, file.name);
        }
    }
    std::sort(files.begin(), files.end());
    const auto twice =
        std::adjacent_find(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.first == b.first; });
    if (twice != files.end()) {
        throw hlwq::format_error("tensor " + std::string(twice->first) +
                                 " of the output: expected one source, found two");
    }
    std::string text = "{\n  \"metadata\": {\n    \"producer\": " + in_quotes(std::string("hlwq ") + hlwq::version) +
                       ",\n    \"total_size\": " + std::to_string(plan.tensor_bytes) + "\n  },\n  \"weight_map\": {";
    const char* separator = "\n    ";
    for (const auto& [tensor, file] : files) {
        text += separator + in_quotes(tensor) + ": " + in_quotes(file);
        separator = ",\n    ";
    }
    return text + "\n  }\n}\n";
}

}  // namespace

shard_plan plan_shards(std::vector<piece> pieces, std::uint64_t shard_bytes) {
    shard_plan plan;
    plan.pieces = std::move(pieces);
    std::uint64_t filled = 0;
    for (std::size_t p = 0; p < plan.pieces.size(); ++p) {
        std::uint64_t size = 0;
        for (const auto& tensor : plan.pieces[p].outputs) size += hlwq::safetensors::byte_count(tensor);
        if (plan.shards.empty() || (filled != 0 && (size > shard_bytes || filled > shard_bytes - size))) {
            plan.shards.emplace_back().first_piece = p;
            filled = 0;
        }
        filled += size;
        plan.shards.back().last_piece = p + 1;
        plan.tensor_bytes += size;
        plan.weights += plan.pieces[p].weights;
        plan.read_bytes += plan.pieces[p].read_bytes;
    }
    if (plan.shards.empty()) plan.shards.emplace_back();  // a checkpoint without tensors is still a file
    for (std::size_t k = 0; k < plan.shards.size(); ++k) {
        shard& file = plan.shards[k];
        file.name = "model.safetensors";
        if (plan.shards.size() > 1) {
            char name[64];
            std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", k + 1, plan.shards.size());
            file.name = name;
        }
        for (std::size_t p = file.first_piece; p < file.last_piece; ++p) {
            for (std::size_t output = 0; output < plan.pieces[p].outputs.size(); ++output) {
                file.order.push_back({p, output});
            }
        }
        std::stable_sort(file.order.begin(), file.order.end(), [&](const placement& a, const placement& b) {
            return rank(plan.pieces[a.piece], a.output) < rank(plan.pieces[b.piece], b.output);
        });
    }
    plan.index = index_of(plan);
    return plan;
}

}  // namespace tool
