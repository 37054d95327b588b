// qwen_moe_chat/sampler.hpp — from the logits of one token to the next token
//
//   l    = logit + bias
//   l    = l > 0 ? l / r : l · r                  r = repetition penalty; tokens of the prompt and of the answer
//   l   -= frequency · count + presence           count > 0 in the answer
//   w    = exp((l - max l) / temperature)         temperature 0: the largest l, the lowest id among equals, no draw
//   kept = the top_k largest;
//          of these the fewest, largest first, whose sum reaches top_p of the sum;
//          of these w >= min_p
//   next = the first of the kept, largest first, at which the running sum of w exceeds u · sum
//
// Definitions and order are those of transformers and vLLM (llama.cpp applies the temperature last). u is one draw a
// token: the upper 53 bits of std::mt19937_64, whose output the standard fixes, times 2^-53. So the same seed and the
// same logits give the same tokens on every platform whose exp agrees.
//
// Never more than the tokens about as likely as the one that is drawn are sorted, and nothing is allocated once the
// first token was drawn.
//
//   throws   value_error for settings out of range and logits among which none is finite
//
// Example
//   qwen::sampler choose({.temperature = 0.7, .top_k = 20}, vocabulary, unused, seed);
//   choose.begin(prompt);
//   const token_id next = choose.sample(logits);
//   choose.accept(next);
#pragma once

#include "qwen_moe_chat/config.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace qwen {

struct sampling_options {
    double temperature = 1.0;                                  // 0: greedy
    std::size_t top_k = 0;                                     // 0: all
    double top_p = 1.0;                                        // 1: all
    double min_p = 0.0;                                        // 0: all
    double presence_penalty = 0.0;                             // once for every token of the answer
    double frequency_penalty = 0.0;                            // for every time that a token occurs in the answer
    double repetition_penalty = 1.0;                           // tokens of prompt and answer; 1: none
    std::vector<std::pair<token_id, double>> logit_bias = {};  // -infinity: never
};

class sampler {
  public:
    /// `never`: ids that are not sampled whatever their logits say.
    sampler(sampling_options options, std::size_t vocabulary, std::span<const token_id> never, std::uint64_t seed);

    const sampling_options& options() const noexcept { return options_; }
    /// Changes the settings; the random numbers go on.
    void set(sampling_options options);
    void seed(std::uint64_t seed) { random_.seed(seed); }

    /// Begins an answer to this prompt: the penalties forget the answer before, the random numbers go on.
    void begin(std::span<const token_id> prompt);
    /// The next token for logits [vocabulary]. It counts for the penalties once it is accepted.
    token_id sample(std::span<const float> logits);
    void accept(token_id id);

  private:
    struct candidate {
        float logit;
        token_id id;
        double weight;
    };
    struct occurrence {
        std::uint32_t in_answer = 0;
        bool in_prompt = false;
    };

    static bool before(const candidate& a, const candidate& b) noexcept {
        return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
    }
    void penalise();
    token_id largest() const;
    void collect();
    double mass() const;
    candidate at(double target);
    token_id draw();

    sampling_options options_;
    std::vector<token_id> never_;
    std::mt19937_64 random_;
    std::vector<occurrence> seen_;    // by id
    std::vector<token_id> seen_ids_;  // those with an occurrence
    std::vector<float> logits_;       // with bias and penalties
    std::vector<candidate> candidates_;
    static constexpr std::size_t groups = 1024;
    std::array<double, groups> group_mass_;  // of candidates that are about as likely
    std::vector<candidate> group_;
};

}  // namespace qwen
