// qwen_moe_chat/commands/sampling_arguments.hpp — options of every command that samples
#pragma once

#include "qwen_moe_chat/generation_config.hpp"
#include "qwen_moe_chat/sampler.hpp"

#include <CLI/CLI.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qwen {

/// What the command line says; the rest is up to generation_config.json.
struct sampling_arguments {
    std::optional<double> temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
    std::optional<std::size_t> top_k;
    std::vector<std::string> logit_bias;  // ID=VALUE
    std::optional<std::uint64_t> seed;
};
void add_options(CLI::App& app, sampling_arguments& to);

/// The settings of a model, overridden by the arguments. Throws usage_error.
sampling_options resolve(const generation_config& defaults, const sampling_arguments& arguments,
                         std::size_t vocabulary);
/// The seed that was given, else another one each time.
std::uint64_t resolve_seed(const sampling_arguments& arguments);

}  // namespace qwen
