// qwen_moe_chat/synth.hpp — checkpoints of the real shapes with random weights, to measure speed and memory
//
// The shapes are those of Qwen3.6-35B-A3B, Qwen3.5-9B and Qwen3.5-27B with any number of layers and any vocabulary:
// text model and head, names and nesting of the published files, without the multi-token prediction layer. Weights are
//
//   w_k = (s_k + shift) · unit     s_k = sum of the four 16-bit fields of splitmix64(key + k)
//
// with a key that the seed and the tensor's name decide: bell-shaped, within 3.5 standard deviations, rounded to BF16,
// the same bits on every machine and for any number of threads. Deviations are 1 / √columns, smaller where a block
// writes to the residual stream, so that activations stay near 1. Quantized weights are those same BF16 weights, in
// the published format and policy: what `hlwq quantize` makes of the BF16 checkpoint.
//
// Limits: the tokenizer knows the 256 bytes and five added tokens; rows of the vocabulary beyond them have no token.
// What the model says is noise.
//
//   memory   a few million weights at a time
//   threads  rows are divided
//   throws   value_error, io_error
#pragma once

#include "qwen_moe_chat/config.hpp"

#include "hlwq/executor.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qwen {

struct synth_options {
    std::string shape = "35b-a3b";
    std::optional<std::size_t> layers, vocabulary;  // those of the real model unless given
    std::optional<int> bits;                        // 2..8; BF16 unless given
    std::uint64_t seed = 1;
    std::uint64_t shard_bytes = 4'000'000'000;
};

/// Names of the shapes: those of the real models, and "tiny" for tests.
std::span<const std::string_view> synth_shapes() noexcept;
/// Least vocabulary: the tokens of the tokenizer.
inline constexpr std::size_t least_synth_vocabulary = 261;

/// config.json.
nlohmann::ordered_json synth_config(const synth_options& options);

/// A tensor and how its weights are distributed.
struct synth_tensor {
    std::string name;
    std::vector<std::uint64_t> shape;
    float mean = 0.0f;
    float deviation = 0.0f;
};
/// All tensors of a model, in the order of the layers.
std::vector<synth_tensor> synth_tensors(const model_config& config);

struct synth_size {
    std::uint64_t parameters = 0;
    std::uint64_t bytes = 0;  // of the tensors
    std::size_t files = 0;
};
/// What `write_synth` would write.
synth_size measure_synth(const synth_options& options);

/// Called with weights and bytes written since the last call, and the tensor they belong to.
using synth_progress = std::function<void(std::uint64_t weights, std::uint64_t bytes, std::string_view tensor)>;

/// Writes the checkpoint into a folder that exists. While it is unfinished, the folder holds a mark that readers
/// refuse; config.json and the index come last.
synth_size write_synth(const synth_options& options, const std::filesystem::path& folder, hlwq::executor_ref threads,
                       const synth_progress& progress = {});

}  // namespace qwen
