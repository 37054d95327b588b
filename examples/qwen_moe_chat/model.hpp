// qwen_moe_chat/model.hpp — the whole model: tokens in, hidden states and logits out
//
//   x = embedding[ids]
//   every layer:  x += mixer( norm(x, input_norm) );  x += ffn( norm(x, post_attention_norm) )
//   h = norm(x, norm);  logits = h headᵀ
//
// One call takes any number of tokens of any number of sequences: a prompt or a piece of it, one token of each of
// several conversations, or a mixture. Every sequence continues from its own state, and the result for a token does not
// depend on what else is in the call, up to the rounding of the two forms of the delta rule.
//
//   threads  the model is only read: several threads may use it, each with a workspace and states of its own
//   throws   value_error for token ids beyond the vocabulary and sequences beyond the context
//
// Example
//   const qwen::model model("Qwen3.6-35B-A3B-HLWQ-Q5");
//   qwen::sequence_state state(model.config());
//   qwen::workspace space(model.config());
//   const qwen::sequence_input input{ids, &state};
//   const auto h = model.forward({&input, 1}, space, how);
//   model.logits(h.rows_between(h.rows - 1, h.rows), logits, space, how);
#pragma once

#include "qwen_moe_chat/attention.hpp"
#include "qwen_moe_chat/config.hpp"
#include "qwen_moe_chat/gated_delta_net.hpp"
#include "qwen_moe_chat/moe.hpp"
#include "qwen_moe_chat/ops.hpp"
#include "qwen_moe_chat/sequence_state.hpp"
#include "qwen_moe_chat/weights.hpp"

#include "hlwq/io/checkpoint.hpp"

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace qwen {

/// The next tokens of one sequence.
struct sequence_input {
    std::span<const token_id> ids;
    sequence_state* state = nullptr;
    std::span<const rope_position> positions = {};  // empty: text, each token one behind the other
};

/// What a layer computed; all matrices [tokens, ...].
struct layer_report {
    std::size_t layer = 0;
    matrix_view<const float> mixer, ffn, out;  // [.., hidden]; out = the residual stream behind the layer
    matrix_view<const float> router_logits;    // [.., experts]; empty in dense models
    std::span<const expert_choice> choices;    // [tokens · chosen]
};

/// Memory of forward passes: grows to what the largest call needs, then stays.
struct workspace {
    explicit workspace(const model_config& config) : rope(config.rope) {}

    /// Called behind every layer, if set.
    std::function<void(const layer_report&)> observer;

    rotary_embedding rope;
    std::vector<rope_position> positions;
    std::vector<sequence_rows> sequences;
    activations x, normed, mixer_out, ffn_out, hidden, pairs;
    linear_input normed_input, hidden_input, pairs_input;
    gated_delta_net_scratch gdn;
    attention_scratch attn;
    moe_scratch experts;
};

class model {
  public:
    /// Opens a checkpoint folder.
    explicit model(const std::filesystem::path& folder);
    /// The same with files in memory.
    explicit model(std::unique_ptr<hlwq::checkpoint::reader> file);

    const model_config& config() const noexcept { return config_; }
    const model_weights& weights() const noexcept { return weights_; }
    const hlwq::checkpoint::reader& file() const noexcept { return *file_; }

    /// h [tokens of all sequences, hidden], the final norm applied; valid until the next call with `space`. A call
    /// that is refused leaves the states as they were.
    matrix_view<const float> forward(std::span<const sequence_input> batch, workspace& space, const compute& how) const;

    /// out [rows of h, vocabulary]
    void logits(matrix_view<const float> h, matrix_view<float> out, workspace& space, const compute& how) const;

    bool has_mtp() const noexcept { return weights_.mtp.has_value(); }
    /// The multi-token prediction layer: from h of position t and the token at t + 1, for every t in order from the
    /// first, the hidden state whose logits are those of the token at t + 2. Its keys and values are in the states,
    /// which must have consumed no fewer tokens than pairs. h [tokens, hidden], valid until the next call with `space`.
    matrix_view<const float> predict(std::span<const sequence_input> next, matrix_view<const float> h, workspace& space,
                                     const compute& how) const;

  private:
    void check(std::span<const sequence_input> batch) const;
    void run_layer(const decoder_layer& w, std::size_t layer, matrix_view<float> x, workspace& space,
                   const compute& how) const;

    std::unique_ptr<hlwq::checkpoint::reader> file_;
    model_config config_;
    model_weights weights_;
};

}  // namespace qwen
