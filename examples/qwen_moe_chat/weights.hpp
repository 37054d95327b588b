// qwen_moe_chat/weights.hpp — the tensors of a checkpoint as the blocks of the model
//
// Matrices stay in the mapped files, in BF16, F16, F32 or packed codes of any dialect; norms and the other small
// tensors are widened to f32. Three things vary from export to export, independently, and are found out by looking: the
// prefix of the text model, the nesting of config.json, and whether a layer's experts are fused or stored one by one.
//
//   throws   format_error, naming the tensor, what was expected and what was found; unsupported_error for element types
#pragma once

#include "qwen_moe_chat/attention.hpp"
#include "qwen_moe_chat/config.hpp"
#include "qwen_moe_chat/gated_delta_net.hpp"
#include "qwen_moe_chat/moe.hpp"
#include "qwen_moe_chat/ops.hpp"

#include "hlwq/io/checkpoint.hpp"

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace qwen {

struct decoder_layer {
    std::vector<float> input_norm;           // [hidden]
    std::vector<float> post_attention_norm;  // [hidden]
    std::variant<gated_delta_net, attention> mixer;
    std::variant<feed_forward, moe> ffn;
};

/// The multi-token prediction layer; embedding and head are those of the model.
struct mtp_layer {
    std::vector<float> embedding_norm;  // [hidden]
    std::vector<float> hidden_norm;     // [hidden]
    matrix fc;                          // [hidden, 2 · hidden], the embedding's half first
    decoder_layer layer;
    std::vector<float> norm;  // [hidden]
};

struct model_weights {
    matrix embedding;         // [vocabulary, hidden]
    matrix head;              // [vocabulary, hidden], the embedding where the checkpoint has no other
    std::vector<float> norm;  // [hidden]
    std::vector<decoder_layer> layers;
    std::optional<mtp_layer> mtp;
    /// What a user should know: tensors that were left out, and why.
    std::vector<std::string> notes;
    std::deque<std::vector<std::byte>> copies;  // of tensors that lie across the alignment of their type
};

/// The layout in which the codes of a matrix are computed with: the one that was asked for, else the one that this
/// processor reads fastest. Matrices that no product reads, or that cannot be laid out so, keep their own.
hlwq::layout_id layout_in_memory(const hlwq::checkpoint::tensor& t, std::optional<hlwq::layout_id> asked);

/// The views in the result live as long as `file`.
model_weights load_weights(const hlwq::checkpoint::reader& file, const model_config& config);

}  // namespace qwen
