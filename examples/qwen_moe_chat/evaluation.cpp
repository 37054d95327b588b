#include "qwen_moe_chat/evaluation.hpp"

#include "hlwq/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace qwen {

namespace {

// Tokens of a forward pass: enough to read the weights once for many of them.
constexpr std::size_t piece_tokens = 512;
constexpr std::size_t logits_bytes = std::size_t{64} << 20;

/// Turns logits into log-probabilities. The largest logit is kept apart from the logarithm of the sum, which beside a
/// large one would be lost. Not finite if any logit is NaN or +infinity.
class log_softmax {
  public:
    explicit log_softmax(std::span<const float> x) noexcept {
        float most = -std::numeric_limits<float>::infinity();
        for (const float value : x) most = std::max(most, value);
        most_ = static_cast<double>(most);
        double sum = 0.0;
        for (const float value : x) sum += std::exp(static_cast<double>(value) - most_);
        log_sum_ = std::log(sum);
    }
    double operator()(float x) const noexcept { return static_cast<double>(x) - most_ - log_sum_; }

  private:
    double most_, log_sum_;
};

token_id most_likely(std::span<const float> x) noexcept {
    return static_cast<token_id>(std::max_element(x.begin(), x.end()) - x.begin());
}

/// What a pair of rows says about one token.
struct comparison {
    double base_nll = 0.0, nll = 0.0, kld = 0.0;
    bool same_top1 = false;
};

comparison compare(std::span<const float> base, std::span<const float> tested, token_id target) noexcept {
    comparison result;
    const log_softmax log_p(base), log_q(tested);
    result.base_nll = -log_p(base[target]);
    result.nll = -log_q(tested[target]);
    for (std::size_t v = 0; v < base.size(); ++v) {
        const double p = log_p(base[v]);
        result.kld += std::exp(p) * (p - log_q(tested[v]));
    }
    // Never negative but for rounding.
    if (result.kld < 0.0) result.kld = 0.0;
    result.same_top1 = most_likely(base) == most_likely(tested);
    return result;
}

void require_finite(double value, std::size_t token) {
    HLWQ_EXPECTS(std::isfinite(value), hlwq::value_error,
                 "logits that predict token " + std::to_string(token) + " of the text", "finite numbers", value);
}

/// Feeds the windows to all sources and calls visit(begin, end, offset): logits behind the tokens fed last, from
/// `offset` on, predict tokens [begin, end) of the text.
template <class Visit>
void for_each_scored(std::span<logits_source* const> sources, std::span<const token_id> ids,
                     std::span<const text_window> windows, std::size_t rows, const evaluation_watch& watch,
                     Visit&& visit) {
    for (const text_window& window : windows) {
        for (logits_source* source : sources) source->start();
        // The last token of a window predicts nothing that is scored.
        for (std::size_t begin = window.begin, end; begin + 1 < window.end; begin = end) {
            end = std::min(begin + piece_tokens, window.end - 1);
            for (logits_source* source : sources) source->feed(ids.subspan(begin, end - begin));
            for (std::size_t at = std::max(begin, window.first - 1), next; at < end; at = next) {
                next = std::min(at + rows, end);
                visit(at + 1, next + 1, at - begin);
            }
            if (watch.advance) watch.advance(end - begin);
        }
    }
}

perplexity_result summarize(std::span<const double> nll) {
    perplexity_result result;
    result.nll = estimate_mean(nll);
    result.ppl = std::exp(result.nll.mean);
    result.ppl_error = result.ppl * result.nll.error;
    result.tokens = nll.size();
    return result;
}

}  // namespace

std::vector<text_window> windows_of(std::size_t tokens, const window_protocol& protocol) {
    const std::size_t window = protocol.window;
    const bool half = protocol.scored == scored_tokens::second_half;
    HLWQ_EXPECTS(window >= (half ? 4u : 2u), hlwq::value_error, "tokens of a window",
                 half ? "at least 4" : "at least 2", window);
    std::vector<text_window> windows;
    if (half) {
        HLWQ_EXPECTS(tokens >= window, hlwq::value_error, "tokens of the text",
                     "at least a window of " + std::to_string(window), tokens);
        for (std::size_t at = 0; at + window <= tokens; at += window) {
            windows.push_back({at, at + window / 2 + 1, at + window});
        }
        return windows;
    }
    HLWQ_EXPECTS(tokens >= 2, hlwq::value_error, "tokens of the text", "at least 2", tokens);
    if (protocol.scored == scored_tokens::all) {
        for (std::size_t at = 0; at + 1 < tokens; at += window) {
            windows.push_back({at, at + 1, std::min(tokens, at + window)});
        }
        return windows;
    }
    HLWQ_EXPECTS(protocol.stride >= 1 && protocol.stride < window, hlwq::value_error, "stride of sliding windows",
                 "from 1 to " + std::to_string(window - 1) + ", less than the window", protocol.stride);
    for (std::size_t at = 0, scored = 1; scored < tokens; at += protocol.stride) {
        windows.push_back({at, scored, std::min(tokens, at + window)});
        scored = windows.back().end;
    }
    return windows;
}

std::size_t scored_count(std::span<const text_window> windows) noexcept {
    std::size_t count = 0;
    for (const text_window& window : windows) count += window.end - window.first;
    return count;
}

std::size_t fed_count(std::span<const text_window> windows) noexcept {
    std::size_t count = 0;
    for (const text_window& window : windows) count += window.end - window.begin - 1;
    return count;
}

std::string describe(const window_protocol& protocol) {
    const std::string windows = "windows of " + std::to_string(protocol.window) + " tokens";
    switch (protocol.scored) {
        case scored_tokens::all: return "chunked: " + windows + ", all but the first token of each scored";
        case scored_tokens::sliding:
            return "sliding: " + windows + ", stride " + std::to_string(protocol.stride) +
                   ", every token but the first scored once";
        case scored_tokens::second_half: break;
    }
    return "chunked: " + windows + ", the last " + std::to_string(protocol.window - protocol.window / 2 - 1) +
           " of each scored";
}

void model_logits::feed(std::span<const token_id> ids) {
    const sequence_input input{ids, &state_, {}};
    h_ = model_->forward({&input, 1}, space_, how_);
}

matrix_view<const float> model_logits::logits(std::size_t begin, std::size_t end) {
    const auto out = memory_.shape(end - begin, vocabulary());
    model_->logits(h_.rows_between(begin, end), out, space_, how_);
    return out;
}

mean_estimate estimate_mean(std::span<const double> samples) {
    const auto count = static_cast<double>(samples.size());
    const double mean = std::accumulate(samples.begin(), samples.end(), 0.0) / count;
    double squares = 0.0;
    for (const double sample : samples) squares += (sample - mean) * (sample - mean);
    const double none = std::numeric_limits<double>::quiet_NaN();
    return {mean, samples.size() < 2 ? none : std::sqrt(squares / (count - 1.0) / count)};
}

double share_error(double share, std::size_t count) {
    if (count < 2) return std::numeric_limits<double>::quiet_NaN();
    return std::sqrt(share * (1.0 - share) / static_cast<double>(count - 1));
}

double quantile(std::span<const double> ascending, double q) {
    const double at = q * static_cast<double>(ascending.size() - 1);
    const auto below = static_cast<std::size_t>(at);
    const std::size_t above = std::min(below + 1, ascending.size() - 1);
    return ascending[below] + (at - static_cast<double>(below)) * (ascending[above] - ascending[below]);
}

std::size_t rows_at_once(std::size_t vocabulary) noexcept {
    return std::clamp<std::size_t>(logits_bytes / (vocabulary * sizeof(float) + 1), 1, piece_tokens);
}

double log_probability(std::span<const float> logits, token_id target) noexcept {
    return log_softmax(logits)(logits[target]);
}

perplexity_result perplexity(logits_source& source, std::span<const token_id> ids, const window_protocol& protocol,
                             hlwq::executor_ref threads, const evaluation_watch& watch) {
    const auto windows = windows_of(ids.size(), protocol);
    std::vector<double> nll;
    nll.reserve(scored_count(windows));
    logits_source* const sources[] = {&source};
    for_each_scored(sources, ids, windows, rows_at_once(source.vocabulary()), watch,
                    [&](std::size_t begin, std::size_t end, std::size_t offset) {
                        const auto rows = source.logits(offset, offset + (end - begin));
                        const std::size_t before = nll.size();
                        nll.resize(before + (end - begin));
                        threads.parallel_for(end - begin, 1, [&](std::size_t from, std::size_t to, unsigned) noexcept {
                            for (std::size_t i = from; i < to; ++i) {
                                nll[before + i] = -log_probability(rows.row(i), ids[begin + i]);
                            }
                        });
                        for (std::size_t i = before; i < nll.size(); ++i) require_finite(nll[i], begin + i - before);
                        if (watch.logits) watch.logits(rows);
                    });
    return summarize(nll);
}

divergence_result divergence(logits_source& base, logits_source& tested, std::span<const token_id> ids,
                             const window_protocol& protocol, hlwq::executor_ref threads,
                             const evaluation_watch& watch) {
    HLWQ_EXPECTS(base.vocabulary() == tested.vocabulary(), hlwq::shape_error, "vocabulary of the base",
                 tested.vocabulary(), base.vocabulary());
    const auto windows = windows_of(ids.size(), protocol);
    std::vector<comparison> tokens;
    tokens.reserve(scored_count(windows));
    logits_source* const sources[] = {&base, &tested};
    for_each_scored(sources, ids, windows, rows_at_once(tested.vocabulary()), watch,
                    [&](std::size_t begin, std::size_t end, std::size_t offset) {
                        const auto of_base = base.logits(offset, offset + (end - begin));
                        const auto rows = tested.logits(offset, offset + (end - begin));
                        const std::size_t before = tokens.size();
                        tokens.resize(before + (end - begin));
                        threads.parallel_for(end - begin, 1, [&](std::size_t from, std::size_t to, unsigned) noexcept {
                            for (std::size_t i = from; i < to; ++i) {
                                tokens[before + i] = compare(of_base.row(i), rows.row(i), ids[begin + i]);
                            }
                        });
                        for (std::size_t i = before; i < tokens.size(); ++i)
                            require_finite(tokens[i].kld, begin + i - before);
                        if (watch.logits) watch.logits(rows);
                    });

    divergence_result result;
    std::vector<double> samples(tokens.size());
    const auto collect = [&](auto&& value) {
        std::transform(tokens.begin(), tokens.end(), samples.begin(), value);
        return std::span<const double>(samples);
    };
    result.base = summarize(collect([](const comparison& t) { return t.base_nll; }));
    result.tested = summarize(collect([](const comparison& t) { return t.nll; }));
    result.log_ppl_ratio = estimate_mean(collect([](const comparison& t) { return t.nll - t.base_nll; }));
    const auto same = static_cast<double>(std::ranges::count(tokens, true, &comparison::same_top1));
    result.same_top1.mean = same / static_cast<double>(tokens.size());
    result.same_top1.error = share_error(result.same_top1.mean, tokens.size());
    result.kld = estimate_mean(collect([](const comparison& t) { return t.kld; }));
    std::ranges::sort(samples);
    result.median = quantile(samples, 0.5);
    result.p99 = quantile(samples, 0.99);
    result.max = samples.back();
    return result;
}

}  // namespace qwen
