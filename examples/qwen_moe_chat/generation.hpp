// qwen_moe_chat/generation.hpp — a prompt and a model to an answer
//
//   answer     one answer while it grows: sampler, text, what ends it. Takes logits, gives tokens; knows no model, so
//              that answers of several sequences can share the model's calls
//   generator  one sequence with its state and snapshots: reads the prompt behind what an earlier one has in common
//              with it, then lets an answer grow
//
// An answer ends at an end token, at a stop string, at its limit of tokens, where the context is full, or when it is
// cancelled: the flag is looked at before every token and every chunk of the prompt, and whoever sets it may be a
// signal handler or another thread.
//
//   threads  a generator and an answer belong to one thread at a time; any number of generators may share a model
//   throws   value_error for an empty prompt and one that leaves no room in the context
//
// Example
//   qwen::generator one(model, tokenizer, end_tokens, how);
//   qwen::sampler choose(options, model.config().vocabulary, unused, seed);
//   const auto result = one.generate({.ids = ids}, choose, {.max_tokens = 100}, [](const qwen::generated_token& token)
//   {
//       std::cout << token.text << std::flush;
//   });
#pragma once

#include "qwen_moe_chat/answer_text.hpp"
#include "qwen_moe_chat/model.hpp"
#include "qwen_moe_chat/prompt_cache.hpp"
#include "qwen_moe_chat/sampler.hpp"
#include "qwen_moe_chat/tokenizer.hpp"

#include <atomic>
#include <cstddef>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qwen {

/// Why an answer ended: end token or stop string; limit of tokens or context; cancelled.
enum class finish_reason { none, stop, length, cancelled };

struct generation_options {
    std::size_t max_tokens = std::numeric_limits<std::size_t>::max();
    std::size_t context = std::numeric_limits<std::size_t>::max();  // tokens of prompt and answer; the model's at most
    std::vector<std::string> stop = {};                             // stop strings
    std::size_t chunk = 512;                                        // tokens of one call while the prompt is read
};

/// One step of an answer.
struct generated_token {
    token_id id = 0;
    std::string_view text;          // that became certain with it, often empty; valid until the next step
    std::span<const float> logits;  // it was drawn from, untouched by penalties; valid until the next step
    bool end = false;               // an end token: not part of the answer
};

class answer {
  public:
    /// `choose` goes on from where it is, with this prompt for its penalties. `end_tokens` are copied.
    answer(const tokenizer& source, std::span<const token_id> end_tokens, sampler& choose,
           std::span<const token_id> prompt, const generation_options& options);

    /// Draws the token behind these logits. None is due once finished.
    generated_token next(std::span<const float> logits);
    /// Ends the answer from outside.
    void cancel() noexcept { reason_ = finish_reason::cancelled; }
    finish_reason reason() const noexcept { return reason_; }
    bool finished() const noexcept { return reason_ != finish_reason::none; }
    /// Text that was held back; call it once, when finished.
    std::string rest();

    /// The tokens so far, without the end token.
    std::span<const token_id> tokens() const noexcept { return tokens_; }

  private:
    std::vector<token_id> end_tokens_;
    sampler* sampler_;
    streaming_decoder decoder_;
    stop_strings stop_;
    std::size_t most_;
    std::vector<token_id> tokens_;
    std::string text_;
    finish_reason reason_ = finish_reason::none;
};

struct prompt {
    std::span<const token_id> ids;
    std::span<const std::size_t> snapshots = {};  // lengths, ascending, at which a later prompt is likely to part
};

struct generation_result {
    finish_reason reason = finish_reason::none;
    std::vector<token_id> tokens;  // without the end token
    std::size_t prompt_tokens = 0;
    std::size_t reused_tokens = 0;  // of the prompt, from a snapshot
    double prompt_seconds = 0.0;    // until the logits of its last token
    double answer_seconds = 0.0;
    std::size_t decoded_tokens = 0;  // that the model computed one by one in answer_seconds
};

class generator {
  public:
    using token_callback = std::function<void(const generated_token&)>;
    using progress_callback = std::function<void(std::size_t read, std::size_t of)>;

    /// `snapshots`: how many are kept; 0: every prompt is read from its beginning.
    generator(const model& net, const tokenizer& text, std::vector<token_id> end_tokens, const compute& how,
              std::size_t snapshots = 6);

    /// Called behind every chunk of a prompt, if set.
    progress_callback on_progress;

    /// Answers a prompt. `on_token` sees every token, and last, with `id` 0 and no logits, text that was held back.
    generation_result generate(const prompt& from, sampler& choose, const generation_options& options,
                               const token_callback& on_token = {}, const std::atomic<bool>* cancelled = nullptr);

    /// The tokens of prompt and answer that the state has consumed.
    std::size_t tokens() const noexcept { return state_.tokens(); }
    const prompt_cache& snapshots() const noexcept { return cache_; }

  private:
    std::optional<matrix_view<const float>> read(const prompt& from, std::size_t at, const generation_options& options,
                                                 const std::atomic<bool>* cancelled);
    std::span<const float> last_logits(matrix_view<const float> h);

    const model* model_;
    const tokenizer* tokenizer_;
    std::vector<token_id> end_tokens_;
    compute how_;
    workspace space_;
    sequence_state state_;
    prompt_cache cache_;
    activations logits_;
};

}  // namespace qwen
