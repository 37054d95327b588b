#include "qwen_moe_chat/sampler.hpp"

#include "hlwq/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

namespace qwen {

namespace {

constexpr float impossible = -std::numeric_limits<float>::infinity();

void check(const char* name, double value, bool legal, const char* expected) {
    HLWQ_EXPECTS(legal, hlwq::value_error, name, expected, value);
}

void check(const sampling_options& o, std::size_t vocabulary) {
    check("temperature", o.temperature, o.temperature >= 0.0 && std::isfinite(o.temperature), "a number from 0");
    check("top_p", o.top_p, o.top_p >= 0.0 && o.top_p <= 1.0, "a number from 0 to 1");
    check("min_p", o.min_p, o.min_p >= 0.0 && o.min_p <= 1.0, "a number from 0 to 1");
    check("presence_penalty", o.presence_penalty, std::isfinite(o.presence_penalty), "a finite number");
    check("frequency_penalty", o.frequency_penalty, std::isfinite(o.frequency_penalty), "a finite number");
    check("repetition_penalty", o.repetition_penalty, o.repetition_penalty > 0.0 && std::isfinite(o.repetition_penalty),
          "a number above 0");
    for (const auto& entry : o.logit_bias) {
        HLWQ_EXPECTS(entry.first < vocabulary, hlwq::value_error, "logit_bias: token id",
                     "below " + std::to_string(vocabulary), entry.first);
        check("logit_bias", entry.second, entry.second < std::numeric_limits<double>::infinity(),
              "a finite number or -infinity");
    }
}

}  // namespace

sampler::sampler(sampling_options options, std::size_t vocabulary, std::span<const token_id> never, std::uint64_t seed)
    : never_(never.begin(), never.end()), random_(seed), seen_(vocabulary), logits_(vocabulary) {
    for (const token_id id : never_) {
        HLWQ_EXPECTS(id < vocabulary, hlwq::value_error, "token id", "below " + std::to_string(vocabulary), id);
    }
    seen_ids_.reserve(vocabulary);
    set(std::move(options));
}

void sampler::set(sampling_options options) {
    check(options, logits_.size());
    options_ = std::move(options);
}

void sampler::begin(std::span<const token_id> prompt) {
    for (const token_id id : seen_ids_) seen_[id] = {};
    seen_ids_.clear();
    for (const token_id id : prompt) {
        HLWQ_EXPECTS(id < seen_.size(), hlwq::value_error, "token id", "below " + std::to_string(seen_.size()), id);
        if (!seen_[id].in_prompt) seen_ids_.push_back(id);
        seen_[id].in_prompt = true;
    }
}

void sampler::accept(token_id id) {
    HLWQ_EXPECTS(id < seen_.size(), hlwq::value_error, "token id", "below " + std::to_string(seen_.size()), id);
    occurrence& at = seen_[id];
    if (at.in_answer == 0 && !at.in_prompt) seen_ids_.push_back(id);
    ++at.in_answer;
}

void sampler::penalise() {
    for (const auto& entry : options_.logit_bias) {
        logits_[entry.first] = static_cast<float>(logits_[entry.first] + entry.second);
    }
    const bool repetition = options_.repetition_penalty != 1.0;
    if (repetition || options_.presence_penalty != 0.0 || options_.frequency_penalty != 0.0) {
        for (const token_id id : seen_ids_) {
            double l = logits_[id];
            if (repetition) l = l > 0.0 ? l / options_.repetition_penalty : l * options_.repetition_penalty;
            const std::uint32_t count = seen_[id].in_answer;
            if (count != 0) l -= options_.frequency_penalty * count + options_.presence_penalty;
            logits_[id] = static_cast<float>(l);
        }
    }
    for (const token_id id : never_) logits_[id] = impossible;
}

token_id sampler::largest() const {
    std::size_t best = 0;
    for (std::size_t id = 1; id < logits_.size(); ++id) {
        // Whatever is compared with NaN is false: not a number is never the best.
        if (logits_[id] > logits_[best] || std::isnan(logits_[best])) best = id;
    }
    HLWQ_EXPECTS(std::isfinite(logits_[best]), hlwq::value_error, "logits", "finite numbers, the largest at least",
                 logits_[best]);
    return static_cast<token_id>(best);
}

/// Candidates = the top_k largest, sorted, or all in the order of their ids; and their sum of weights if it is needed.
void sampler::collect() {
    candidates_.clear();
    sorted_ = 0;
    const std::size_t k = options_.top_k == 0 ? logits_.size() : std::min(options_.top_k, logits_.size());
    // The candidates are cut back to k now and then; what stays out from then on is most of the vocabulary.
    const std::size_t most = std::min(logits_.size(), std::max<std::size_t>(4 * k, 256));
    candidates_.reserve(most);
    const auto cut = [&] {
        const auto last = candidates_.begin() + static_cast<std::ptrdiff_t>(k);
        std::nth_element(candidates_.begin(), last - 1, candidates_.end(), before);
        candidates_.resize(k);
    };
    float above = impossible;
    for (std::size_t id = 0; id < logits_.size(); ++id) {
        if (!(logits_[id] > above)) continue;
        if (candidates_.size() == most) {
            cut();
            above = candidates_.back().logit;
            if (!(logits_[id] > above)) continue;
        }
        candidates_.push_back({logits_[id], static_cast<token_id>(id)});
    }
    if (candidates_.size() > k) cut();
    if (k < logits_.size()) sort_first(k);
    HLWQ_EXPECTS(!candidates_.empty(), hlwq::value_error, "logits", "finite numbers", "none");
    highest_ = std::ranges::min_element(candidates_, before)->logit;
    HLWQ_EXPECTS(std::isfinite(highest_), hlwq::value_error, "logits", "finite numbers", "infinity");
}

/// Brings at least `count` candidates into their final order.
void sampler::sort_first(std::size_t count) {
    if (count <= sorted_) return;
    constexpr std::size_t fewest = 64;  // more at a time each time: a few passes over the candidates at most
    count = std::min(std::max({count, 4 * sorted_, fewest}), candidates_.size());
    const auto begin = candidates_.begin() + static_cast<std::ptrdiff_t>(sorted_);
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(count);
    if (end != candidates_.end()) std::nth_element(begin, end - 1, candidates_.end(), before);
    std::sort(begin, end, before);
    sorted_ = count;
}

double sampler::weight(std::size_t index) const noexcept {
    const double below = static_cast<double>(candidates_[index].logit) - highest_;
    return std::exp(below / options_.temperature);
}

token_id sampler::draw() {
    // Both cuts keep the beginning of the sorted candidates: `kept` of them, with `mass`.
    const bool cut_by_sum = options_.top_p<1.0, cut_by_weight = options_.min_p> 0.0;
    std::size_t kept = candidates_.size();
    double mass = 0.0;
    if (cut_by_sum || !cut_by_weight) {
        for (std::size_t i = 0; i < candidates_.size(); ++i) mass += weight(i);
    }
    if (cut_by_sum || cut_by_weight) {
        const double enough = cut_by_sum ? options_.top_p * mass : std::numeric_limits<double>::infinity();
        mass = 0.0;
        for (kept = 0; kept < candidates_.size(); ++kept) {
            sort_first(kept + 1);
            const double w = weight(kept);
            if (kept != 0 && (w < options_.min_p || mass >= enough)) break;
            mass += w;
        }
    }

    const double u = static_cast<double>(random_() >> 11) * 0x1p-53;
    double sum = 0.0;
    std::size_t i = 0;
    for (; i < kept; ++i) {
        sort_first(i + 1);
        sum += weight(i);
        if (sum > u * mass) break;
    }
    return candidates_[std::min(i, kept - 1)].id;  // a sum in another order may end a rounding below the mass
}

token_id sampler::sample(std::span<const float> logits) {
    HLWQ_EXPECTS(logits.size() == logits_.size(), hlwq::shape_error, "logits", logits_.size(), logits.size());
    std::ranges::copy(logits, logits_.begin());
    penalise();
    if (options_.temperature == 0.0) return largest();
    collect();
    return draw();
}

}  // namespace qwen
