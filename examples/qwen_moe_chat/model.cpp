#include "qwen_moe_chat/model.hpp"

#include "hlwq/error.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace qwen {

namespace {

/// Rows of each sequence, one behind the other.
std::size_t arrange(std::span<const sequence_input> batch, std::vector<sequence_rows>& sequences) {
    std::size_t tokens = 0;
    sequences.clear();
    for (const sequence_input& input : batch) {
        sequences.push_back({tokens, tokens + input.ids.size(), input.state});
        tokens += input.ids.size();
    }
    return tokens;
}

std::string numbered(const char* what, std::size_t index) {
    std::string text = what;
    text += std::to_string(index);
    return text;
}

rope_position text_position(std::size_t position) {
    const auto p = static_cast<std::uint32_t>(position);
    return {p, p, p};
}

}  // namespace

model::model(const std::filesystem::path& folder) : model(std::make_unique<hlwq::checkpoint::reader>(folder)) {}

model::model(std::unique_ptr<hlwq::checkpoint::reader> file)
    : file_(std::move(file)), config_(read_config(file_->config())), weights_(load_weights(*file_, config_)) {}

void model::check(std::span<const sequence_input> batch) const {
    for (std::size_t i = 0; i < batch.size(); ++i) {
        const sequence_input& input = batch[i];
        const std::size_t layers = config_.mixers.size() + 1;
        HLWQ_EXPECTS(input.state != nullptr && input.state->layers() == layers, hlwq::shape_error,
                     numbered("state of sequence ", i), "one of this model", "another");
        HLWQ_EXPECTS(!input.ids.empty(), hlwq::shape_error, numbered("tokens of sequence ", i), "some", "none");
        HLWQ_EXPECTS(input.positions.empty() || input.positions.size() == input.ids.size(), hlwq::shape_error,
                     numbered("positions of sequence ", i), input.ids.size(), input.positions.size());
        for (std::size_t k = 0; k < i; ++k) {
            HLWQ_EXPECTS(batch[k].state != input.state, hlwq::shape_error, numbered("state of sequence ", i),
                         "one of its own", numbered("that of sequence ", k));
        }
        for (const token_id id : input.ids) {
            HLWQ_EXPECTS(id < config_.vocabulary, hlwq::value_error, "token id", numbered("below ", config_.vocabulary),
                         id);
        }
    }
}

void model::run_layer(const decoder_layer& w, std::size_t layer, matrix_view<float> x, workspace& space,
                      const compute& how) const {
    const auto normed = space.normed.shape(x.rows, x.cols);
    const auto mixer_out = space.mixer_out.shape(x.rows, x.cols);
    const auto ffn_out = space.ffn_out.shape(x.rows, x.cols);
    linear_input& n = space.normed_input;

    zero_centred_norm(x, w.input_norm, config_.norm_epsilon, normed, how);
    n.assign(normed);
    if (const auto* net = std::get_if<gated_delta_net>(&w.mixer)) {
        qwen::forward(*net, config_, layer, n, space.sequences, mixer_out, space.gdn, how);
    } else {
        qwen::forward(std::get<attention>(w.mixer), config_, layer, n, space.rope, space.sequences, mixer_out,
                      space.attn, how);
    }
    add(x, mixer_out);

    zero_centred_norm(x, w.post_attention_norm, config_.norm_epsilon, normed, how);
    n.assign(normed);
    if (const auto* experts = std::get_if<moe>(&w.ffn)) {
        qwen::forward(*experts, config_, n, ffn_out, space.experts, how);
    } else {
        qwen::forward(std::get<feed_forward>(w.ffn), n, ffn_out, space.experts.inner, how);
    }
    add(x, ffn_out);

    if (space.observer) {
        layer_report report{layer, mixer_out, ffn_out, x, {}, {}};
        if (config_.is_moe()) {
            report.router_logits = space.experts.router_logits.shape(x.rows, config_.moe.experts);
            report.choices = space.experts.choices;
        }
        space.observer(report);
    }
}

matrix_view<const float> model::forward(std::span<const sequence_input> batch, workspace& space,
                                        const compute& how) const {
    check(batch);
    const std::size_t tokens = arrange(batch, space.sequences);
    space.positions.clear();
    for (const sequence_input& input : batch) {
        const std::size_t after = input.state->tokens() + input.ids.size();
        HLWQ_EXPECTS(after <= config_.max_positions, hlwq::value_error, "tokens of a sequence",
                     numbered("at most ", config_.max_positions) + ", the context of the model", after);
        for (std::size_t t = 0; t < input.ids.size(); ++t) {
            space.positions.push_back(input.positions.empty() ? text_position(input.state->next_position() + t)
                                                              : input.positions[t]);
        }
    }
    space.rope.set(space.positions);

    const auto x = space.x.shape(tokens, config_.hidden);
    std::size_t row = 0;
    for (const sequence_input& input : batch) {
        for (const token_id id : input.ids) read_row(weights_.embedding, id, x.row(row++));
    }
    for (std::size_t i = 0; i < weights_.layers.size(); ++i) run_layer(weights_.layers[i], i, x, space, how);

    for (const sequence_rows& rows : space.sequences) {
        std::uint32_t next = 0;
        for (std::size_t t = rows.begin; t < rows.end; ++t) {
            const rope_position& p = space.positions[t];
            next = std::max({next, p.temporal + 1, p.height + 1, p.width + 1});
        }
        rows.state->advance(rows.end - rows.begin, next);
    }
    const auto h = space.hidden.shape(tokens, config_.hidden);
    zero_centred_norm(x, weights_.norm, config_.norm_epsilon, h, how);
    return h;
}

void model::logits(matrix_view<const float> h, matrix_view<float> out, workspace& space, const compute& how) const {
    HLWQ_EXPECTS(out.rows == h.rows && out.cols == config_.vocabulary, hlwq::shape_error, "logits: columns",
                 config_.vocabulary, out.cols);
    space.hidden_input.assign(h);
    linear(weights_.head, space.hidden_input, out, how);
}

matrix_view<const float> model::predict(std::span<const sequence_input> next, matrix_view<const float> h,
                                        workspace& space, const compute& how) const {
    HLWQ_EXPECTS(has_mtp(), hlwq::unsupported_error, "multi-token prediction", "a checkpoint with its layer", "none");
    check(next);
    const mtp_layer& w = *weights_.mtp;
    const std::size_t tokens = arrange(next, space.sequences), layer = config_.mixers.size();
    HLWQ_EXPECTS(h.rows == tokens && h.cols == config_.hidden, hlwq::shape_error, "multi-token prediction: hidden rows",
                 tokens, h.rows);
    space.positions.clear();
    for (const sequence_input& input : next) {
        const std::size_t past = input.state->kv(layer).size();
        for (std::size_t t = 0; t < input.ids.size(); ++t) space.positions.push_back(text_position(past + t));
    }
    space.rope.set(space.positions);

    // m = concat( norm(embedding[id]), norm(h) ) fcᵀ
    const auto pairs = space.pairs.shape(tokens, 2 * config_.hidden);
    std::size_t row = 0;
    for (const sequence_input& input : next) {
        for (const token_id id : input.ids) {
            const auto e = pairs.row(row).first(config_.hidden), q = pairs.row(row).last(config_.hidden);
            read_row(weights_.embedding, id, e);
            zero_centred_norm(e, w.embedding_norm, config_.norm_epsilon, e);
            zero_centred_norm(h.row(row), w.hidden_norm, config_.norm_epsilon, q);
            ++row;
        }
    }
    const auto m = space.x.shape(tokens, config_.hidden);
    space.pairs_input.assign(pairs);
    linear(w.fc, space.pairs_input, m, how);
    run_layer(w.layer, layer, m, space, how);
    const auto out = space.hidden.shape(tokens, config_.hidden);
    zero_centred_norm(m, w.norm, config_.norm_epsilon, out, how);
    return out;
}

}  // namespace qwen
