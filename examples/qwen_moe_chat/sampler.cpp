#include "qwen_moe_chat/sampler.hpp"

#include "qwen_moe_chat/kernels.hpp"

#include "hlwq/error.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <string>
#include <utility>

namespace qwen {

namespace {

/// Candidates from which on their weights are floats.
constexpr std::size_t many = 4096;
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
    // The next larger one, until there is none: a dozen steps through a vocabulary. What is not a number is not larger.
    float most = impossible;
    std::size_t best = logits_.size();
    for (std::size_t id = 0; (id = kernels().next_above(logits_.data(), id, logits_.size(), most)) < logits_.size();) {
        most = logits_[id];
        best = id;
    }
    HLWQ_EXPECTS(std::isfinite(most), hlwq::value_error, "logits", "finite numbers, the largest at least", most);
    return static_cast<token_id>(best);
}

/// Candidates = the top_k largest, in order, or all, by id; and their weights.
void sampler::collect() {
    candidates_.clear();
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
    const auto next = [&](std::size_t id) {
        // Where all are kept there is nothing to search.
        if (k < logits_.size()) return kernels().next_above(logits_.data(), id, logits_.size(), above);
        while (id < logits_.size() && !(logits_[id] > above)) ++id;
        return id;
    };
    for (std::size_t id = next(0); id < logits_.size(); id = next(id + 1)) {
        if (candidates_.size() == most) {
            cut();
            above = candidates_.back().logit;
            if (!(logits_[id] > above)) continue;
        }
        candidates_.push_back({logits_[id], static_cast<token_id>(id), 0.0});
    }
    if (candidates_.size() > k) cut();
    // nth_element leaves an order of the library's choice, and with it the rounding of sums.
    if (k < logits_.size()) std::sort(candidates_.begin(), candidates_.end(), before);

    HLWQ_EXPECTS(!candidates_.empty(), hlwq::value_error, "logits", "finite numbers", "none");
    const float highest = std::ranges::min_element(candidates_, before)->logit;
    HLWQ_EXPECTS(std::isfinite(highest), hlwq::value_error, "logits", "finite numbers", "infinity");
    const auto exponent = [&](const candidate& c) {
        return (static_cast<double>(c.logit) - highest) / options_.temperature;
    };
    if (candidates_.size() < many) {
        for (candidate& c : candidates_) c.weight = std::exp(exponent(c));
        return;
    }
    // So many weights need not each be exact to the last bit of a double.
    float weights[256];
    for (std::size_t begin = 0; begin < candidates_.size(); begin += std::size(weights)) {
        const auto some =
            std::span(candidates_).subspan(begin, std::min(std::size(weights), candidates_.size() - begin));
        for (std::size_t i = 0; i < some.size(); ++i) weights[i] = static_cast<float>(exponent(some[i]));
        kernels().exponentials(weights, some.size());
        for (std::size_t i = 0; i < some.size(); ++i) some[i].weight = weights[i];
    }
}

double sampler::mass() const {
    double sum = 0.0;
    for (const candidate& c : candidates_) sum += c.weight;
    return sum;
}

/// The first candidate, largest first, at which the running sum of the weights is above the target; the last one if
/// rounding keeps it below. Sorts only those that are about as likely as the one it looks for.
sampler::candidate sampler::at(double target) {
    const auto [low, high] = std::ranges::minmax(candidates_, {}, &candidate::logit);
    // What is 40 temperatures below the best adds nothing to a sum of doubles.
    const double range = std::min(static_cast<double>(high.logit) - low.logit, 40.0 * options_.temperature);
    const double best = high.logit, scale = range > 0.0 ? static_cast<double>(groups - 1) / range : 0.0;
    const auto group_of = [&](const candidate& c) {
        const double distance = (best - c.logit) * scale;
        return distance < static_cast<double>(groups - 1) ? static_cast<std::size_t>(distance) : groups - 1;
    };
    group_mass_.fill(0.0);
    for (const candidate& c : candidates_) group_mass_[group_of(c)] += c.weight;
    std::size_t group = 0, last = 0;
    double sum = 0.0;
    for (; group < groups; ++group) {
        if (group_mass_[group] != 0.0) last = group;
        if (sum + group_mass_[group] > target) break;
        sum += group_mass_[group];
    }
    if (group == groups) {
        group = last;
        sum = target - group_mass_[last];
    }
    group_.clear();
    group_.reserve(candidates_.capacity());
    for (const candidate& c : candidates_) {
        if (group_of(c) == group) group_.push_back(c);
    }
    std::sort(group_.begin(), group_.end(), before);
    const candidate* found = &group_.front();
    for (const candidate& c : group_) {
        if (c.weight == 0.0) break;
        found = &c;
        sum += c.weight;
        if (sum > target) break;
    }
    return *found;
}

token_id sampler::draw() {
    const double threshold = options_.min_p;  // the best has weight 1
    double sum = mass();
    if (options_.top_p < 1.0) {
        // The first at which the sum is above what is just below: at which it reaches it.
        const candidate last = at(std::nextafter(options_.top_p * sum, -1.0));
        std::erase_if(candidates_, [&](const candidate& c) { return before(last, c); });
    }
    if (threshold > 0.0) std::erase_if(candidates_, [&](const candidate& c) { return c.weight < threshold; });
    sum = mass();
    return at(static_cast<double>(random_() >> 11) * 0x1p-53 * sum).id;
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
