// qwen_moe_chat/generation_config.hpp — generation_config.json: how a model wants to be sampled, and where it stops
//
// Fields that are absent have the values that transformers gives them: greedy (do_sample false), temperature 1,
// top_k 50, top_p 1, no min_p, no penalties. Fields of other decoding methods (beams, contrastive search) are ignored.
//
//   throws   format_error naming the field
#pragma once

#include "qwen_moe_chat/config.hpp"
#include "qwen_moe_chat/sampler.hpp"
#include "qwen_moe_chat/tokenizer.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <filesystem>
#include <optional>
#include <vector>

namespace qwen {

struct generation_config {
    bool do_sample = false;
    sampling_options sampling;         // as if do_sample; temperature 0 is for the caller to set where it is false
    std::vector<token_id> end_tokens;  // eos_token_id
    std::optional<std::size_t> max_new_tokens;
};

/// From the parsed text of a generation_config.json.
generation_config read_generation_config(const nlohmann::json& json);
/// That of a folder; all fields absent if there is none.
generation_config read_generation_config(const std::filesystem::path& folder);

/// What ends an answer: eos_token_id of both files, and <|im_end|> and <|endoftext|> of the tokenizer.
std::vector<token_id> end_tokens(const model_config& config, const generation_config& generation,
                                 const tokenizer& text);
/// Ids that are never sampled: rows of the head without a token, and tokens that stand for sound.
std::vector<token_id> unused_tokens(const model_config& config, const tokenizer& text);

}  // namespace qwen
