// qwen_moe_chat/evaluation.hpp — how well a model predicts a text, and how far another one departs from it
//
//   nll(t)      -ln p(token t | the tokens before it in its window), nats
//   perplexity  exp( mean of nll over the scored tokens ): every token counts alike, whatever its window
//   divergence  Kullback-Leibler, Σ_v p_base(v) · ( ln p_base(v) - ln p(v) ), of every scored token
//
// Protocols, that is which tokens are scored and what they see:
//   second_half  windows of `window` tokens side by side; of each the last window - window / 2 - 1 tokens are scored,
//                so that each sees at least window / 2 others; a rest shorter than a window is not used (llama.cpp's)
//   all          windows side by side, the last one may be shorter; all tokens but the first of each are scored
//   sliding      windows begin `stride` tokens apart; each scores the tokens that no window before it has scored, so
//                all tokens but the first of the text are scored once
//
// Probabilities are over all rows of the head, those without a token included. Sums are in double and in the order of
// the tokens: results do not depend on the number of threads.
//
//   memory   logits of at most 64 MiB at a time, two doubles for each scored token
//   throws   value_error for protocols that cannot be, for texts too short to score a token, and for logits that are
//            not finite; what the model throws
//
// Example
//   qwen::model_logits source(model, how);
//   const auto result = qwen::perplexity(source, ids, {}, how.threads);
#pragma once

#include "qwen_moe_chat/model.hpp"

#include "hlwq/executor.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace qwen {

enum class scored_tokens : std::uint8_t { second_half, all, sliding };

struct window_protocol {
    scored_tokens scored = scored_tokens::second_half;
    std::size_t window = 512;
    std::size_t stride = 0;  // of sliding windows
};

/// Tokens [first, end) are scored, each given [begin, itself).
struct text_window {
    std::size_t begin = 0, first = 0, end = 0;
};

/// The windows of a text of that many tokens.
std::vector<text_window> windows_of(std::size_t tokens, const window_protocol& protocol);
/// Tokens that these windows score.
std::size_t scored_count(std::span<const text_window> windows) noexcept;
/// Tokens that a model runs over to score them.
std::size_t fed_count(std::span<const text_window> windows) noexcept;
/// The protocol in words; texts are equal exactly if the protocols are.
std::string describe(const window_protocol& protocol);

/// Where logits come from: a model that runs, or a file of an earlier run.
class logits_source {
  public:
    logits_source() = default;
    logits_source(const logits_source&) = delete;
    logits_source& operator=(const logits_source&) = delete;
    virtual ~logits_source() = default;

    virtual std::size_t vocabulary() const noexcept = 0;
    /// Begins a window.
    virtual void start() = 0;
    /// The next tokens of the window.
    virtual void feed(std::span<const token_id> ids) = 0;
    /// Logits behind tokens [begin, end) of those fed last; valid until the next call. Rows are asked for in order.
    virtual matrix_view<const float> logits(std::size_t begin, std::size_t end) = 0;
};

/// Logits of a model, which outlives this.
class model_logits : public logits_source {
  public:
    model_logits(const model& source, const compute& how)
        : model_(&source), how_(how), space_(source.config()), state_(source.config(), kv_type_for(how.mode)) {}

    std::size_t vocabulary() const noexcept override { return model_->config().vocabulary; }
    void start() override { state_ = sequence_state(model_->config(), kv_type_for(how_.mode)); }
    void feed(std::span<const token_id> ids) override;
    matrix_view<const float> logits(std::size_t begin, std::size_t end) override;

  private:
    const model* model_;
    compute how_;
    workspace space_;
    sequence_state state_;
    matrix_view<const float> h_;
    activations memory_;
};

/// What a caller may watch.
struct evaluation_watch {
    /// Tokens that were run over since the last call; fed_count in all.
    std::function<void(std::size_t tokens)> advance = {};
    /// The logits that scored the next tokens, [tokens, vocabulary]: of the model, not of its base.
    std::function<void(matrix_view<const float> rows)> logits = {};
};

/// A mean and its standard error, which is NaN for less than two samples.
struct mean_estimate {
    double mean = 0.0;
    double error = 0.0;
};
mean_estimate estimate_mean(std::span<const double> samples);
/// The standard error of a share of `count` yes-or-no samples.
double share_error(double share, std::size_t count);
/// The q-th quantile, 0 to 1, interpolated linearly between samples in ascending order.
double quantile(std::span<const double> ascending, double q);

struct perplexity_result {
    double ppl = 0.0;
    double ppl_error = 0.0;  // standard error: ppl · that of nll
    mean_estimate nll;
    std::size_t tokens = 0;  // scored
};

struct divergence_result {
    mean_estimate kld;  // nats
    double median = 0.0, p99 = 0.0, max = 0.0;
    mean_estimate same_top1;      // share of tokens where both find the same token most likely
    mean_estimate log_ppl_ratio;  // ln(ppl / ppl of the base), its error from the differences token by token
    perplexity_result tested, base;
};

/// Rows of logits of that vocabulary that are computed at once.
std::size_t rows_at_once(std::size_t vocabulary) noexcept;
/// ln p(target) = logits[target] - ln Σ exp(logits), in double.
double log_probability(std::span<const float> logits, token_id target) noexcept;

perplexity_result perplexity(logits_source& source, std::span<const token_id> ids, const window_protocol& protocol,
                             hlwq::executor_ref threads, const evaluation_watch& watch = {});

/// Both sources see the same tokens. Throws shape_error if their vocabularies differ in size.
divergence_result divergence(logits_source& base, logits_source& tested, std::span<const token_id> ids,
                             const window_protocol& protocol, hlwq::executor_ref threads,
                             const evaluation_watch& watch = {});

}  // namespace qwen
