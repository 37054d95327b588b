#include "qwen_moe_chat/generation.hpp"

#include "hlwq/error.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace qwen {

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

bool is_set(const std::atomic<bool>* flag) { return flag != nullptr && flag->load(std::memory_order_relaxed); }

}  // namespace

answer::answer(const tokenizer& source, std::span<const token_id> end_tokens, sampler& choose,
               std::span<const token_id> prompt, const generation_options& options)
    : end_tokens_(end_tokens.begin(), end_tokens.end()),
      sampler_(&choose),
      decoder_(source, true),
      stop_(options.stop),
      most_(options.max_tokens) {
    HLWQ_EXPECTS(!prompt.empty(), hlwq::value_error, "prompt", "at least one token", "none");
    HLWQ_EXPECTS(prompt.size() < options.context, hlwq::value_error, "prompt",
                 "fewer tokens than the context, " + std::to_string(options.context), prompt.size());
    most_ = std::min(most_, options.context - prompt.size());
    if (most_ == 0) reason_ = finish_reason::length;
    sampler_->begin(prompt);
}

generated_token answer::next(std::span<const float> logits) {
    const token_id id = sampler_->sample(logits);
    if (std::ranges::find(end_tokens_, id) != end_tokens_.end()) {
        reason_ = finish_reason::stop;
        return {id, {}, logits, true};
    }
    sampler_->accept(id);
    tokens_.push_back(id);
    text_ = stop_.push(decoder_.push(id));
    if (stop_.stopped()) {
        reason_ = finish_reason::stop;
    } else if (tokens_.size() == most_) {
        reason_ = finish_reason::length;
    }
    return {id, text_, logits, false};
}

std::string answer::rest() {
    std::string text = stop_.push(decoder_.finish());
    if (stop_.stopped()) {
        reason_ = finish_reason::stop;
        return text;
    }
    return text + stop_.finish();
}

generator::generator(const model& net, const tokenizer& text, std::vector<token_id> end_tokens, const compute& how,
                     std::size_t snapshots)
    : model_(&net),
      tokenizer_(&text),
      end_tokens_(std::move(end_tokens)),
      how_(how),
      space_(net.config()),
      state_(net.config(), kv_type_for(how.mode)),
      cache_(snapshots) {}

std::span<const float> generator::last_logits(matrix_view<const float> h) {
    const auto out = logits_.shape(1, model_->config().vocabulary);
    model_->logits(h.rows_between(h.rows - 1, h.rows), out, space_, how_);
    return out.row(0);
}

/// The hidden states of the end of the prompt; none if cancelled before.
std::optional<matrix_view<const float>> generator::read(const prompt& from, std::size_t at,
                                                        const generation_options& options,
                                                        const std::atomic<bool>* cancelled) {
    matrix_view<const float> h;
    while (at < from.ids.size()) {
        if (is_set(cancelled)) return std::nullopt;
        const auto cut = std::ranges::upper_bound(from.snapshots, at);
        std::size_t end = std::min(from.ids.size(), at + std::max<std::size_t>(options.chunk, 1));
        if (cut != from.snapshots.end()) end = std::min(end, *cut);
        const sequence_input input{from.ids.subspan(at, end - at), &state_};
        h = model_->forward({&input, 1}, space_, how_);
        at = end;
        if (cut != from.snapshots.end() && at == *cut) cache_.store(from.ids.first(at), state_);
        if (on_progress) on_progress(at, from.ids.size());
    }
    return h;
}

generation_result generator::generate(const prompt& from, sampler& choose, const generation_options& options,
                                      const token_callback& on_token, const std::atomic<bool>* cancelled) {
    generation_options limits = options;
    limits.context = std::min(options.context, model_->config().max_positions);
    answer growing(*tokenizer_, end_tokens_, choose, from.ids, limits);
    generation_result result;
    result.prompt_tokens = from.ids.size();

    const auto begin = std::chrono::steady_clock::now();
    state_ = sequence_state(model_->config(), kv_type_for(how_.mode));
    result.reused_tokens = cache_.restore(from.ids, state_);
    auto h = read(from, result.reused_tokens, options, cancelled);
    std::span<const float> logits;
    if (h) logits = last_logits(*h);
    result.prompt_seconds = seconds_since(begin);

    const auto first = std::chrono::steady_clock::now();
    if (!h) growing.cancel();
    while (!growing.finished()) {
        if (is_set(cancelled)) {
            growing.cancel();
            break;
        }
        const generated_token token = growing.next(logits);
        if (on_token) on_token(token);
        if (growing.finished()) break;
        const sequence_input input{{&token.id, 1}, &state_};
        logits = last_logits(model_->forward({&input, 1}, space_, how_));
        ++result.decoded_tokens;
    }
    const std::string rest = growing.rest();
    if (on_token && !rest.empty()) on_token({0, rest, {}, false});
    result.answer_seconds = seconds_since(first);
    result.reason = growing.reason();
    result.tokens.assign(growing.tokens().begin(), growing.tokens().end());

    std::vector<token_id> consumed(from.ids.begin(), from.ids.end());
    consumed.insert(consumed.end(), result.tokens.begin(), result.tokens.end());
    consumed.resize(state_.tokens());
    cache_.store(consumed, state_);
    return result;
}

}  // namespace qwen
