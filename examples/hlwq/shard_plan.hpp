// hlwq/shard_plan.hpp — which tensor goes into which file and in what order, settled before the first byte is written
//
// Names and shapes alone decide, so the plan of a resumed run is the plan of the first. Pieces of work stay whole and
// in order; a file is closed when the next piece would take it past the limit. Within a file tensors with elements of
// 8 bytes come first, then those of 4, then all others, single bytes last: so every tensor is aligned. Packed codes are
// whole multiples of 16 bytes and stay beside their norms, so that both can be written in one pass.
#pragma once

#include "hlwq/io/safetensors_writer.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tool {

/// The tensors that come of one matrix, or of one tensor that is copied: written by the command that planned them.
struct piece {
    std::string source;     // for messages
    std::size_t index = 0;  // what the command finds its work by
    bool packed = false;    // codes and norms among the outputs
    std::uint64_t weights = 0;
    std::uint64_t read_bytes = 0;
    std::vector<hlwq::safetensors::planned_tensor> outputs;
};

/// One tensor of a file: output `output` of piece `piece`.
struct placement {
    std::size_t piece, output;
};

struct shard {
    std::string name;
    std::size_t first_piece = 0, last_piece = 0;  // [first, last)
    std::vector<placement> order;
};

struct shard_plan {
    std::vector<piece> pieces;
    std::vector<shard> shards;
    std::string index;  // model.safetensors.index.json
    std::uint64_t tensor_bytes = 0, weights = 0, read_bytes = 0;
};

/// Throws format_error if two outputs have the same name.
shard_plan plan_shards(std::vector<piece> pieces, std::uint64_t shard_bytes);

}  // namespace tool
