#include "qwen_moe_chat/commands/sampling_arguments.hpp"

#include "qwen_moe_chat/commands/command.hpp"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string_view>
#include <utility>

namespace qwen {

namespace {

std::pair<token_id, double> parse_bias(const std::string& text, std::size_t vocabulary) {
    const auto fail = [&](const std::string& expected) {
        throw usage_error("--logit-bias: expected " + expected + ", found " + text);
    };
    const std::size_t sign = text.find('=');
    if (sign == std::string::npos) fail("ID=VALUE");
    token_id id = 0;
    const char *begin = text.data(), *end = begin + sign;
    const auto whole = std::from_chars(begin, end, id);
    if (whole.ec != std::errc() || whole.ptr != end) fail("the id of a token in front of '='");
    if (id >= vocabulary) fail("a token id below " + std::to_string(vocabulary));
    double value = 0.0;
    const char* last = text.data() + text.size();
    const auto number = std::from_chars(end + 1, last, value);
    if (number.ec != std::errc() || number.ptr != last || std::isnan(value) || (std::isinf(value) && value > 0.0)) {
        fail("a number or -inf behind '='");
    }
    return {id, value};
}

}  // namespace

void add_options(CLI::App& app, sampling_arguments& to) {
    constexpr const char* group = "Sampling (default: generation_config.json of the model)";
    const auto number = [&](const char* name, std::optional<double>& value, const char* help, double low, double high) {
        const auto is_number = [](const std::string& text) {  // CLI::Range lets NaN pass
            return std::isnan(std::strtod(text.c_str(), nullptr)) ? "expected a number, found " + text : std::string();
        };
        app.add_option(name, value, help)->check(CLI::Range(low, high))->check(is_number)->type_name("X")->group(group);
    };
    number("--temp", to.temperature, "temperature; 0: always the likeliest token", 0.0, 1e6);
    app.add_option("--top-k", to.top_k, "only the K likeliest tokens; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->type_name("K")
        ->group(group);
    number("--top-p", to.top_p, "only the likeliest tokens that reach this probability together", 0.0, 1.0);
    number("--min-p", to.min_p, "only tokens of at least this part of the likeliest one's probability", 0.0, 1.0);
    number("--presence-penalty", to.presence_penalty, "subtracted from logits of tokens of the answer", -1e6, 1e6);
    number("--frequency-penalty", to.frequency_penalty, "the same, for every time that the token occurs", -1e6, 1e6);
    number("--repeat-penalty", to.repetition_penalty, "divides logits of tokens of prompt and answer; 1: none", 1e-6,
           1e6);
    app.add_option("--logit-bias", to.logit_bias, "added to the logit of a token; -inf: never; repeatable")
        ->type_name("ID=VALUE")
        ->allow_extra_args(false)
        ->group(group);
    app.add_option("--seed", to.seed, "of the random numbers: the same seed, the same text")
        ->type_name("N")
        ->group(group);
}

sampling_options resolve(const generation_config& defaults, const sampling_arguments& arguments,
                         std::size_t vocabulary) {
    sampling_options options = defaults.sampling;
    if (!defaults.do_sample) options.temperature = 0.0;
    options.temperature = arguments.temperature.value_or(options.temperature);
    options.top_k = arguments.top_k.value_or(options.top_k);
    options.top_p = arguments.top_p.value_or(options.top_p);
    options.min_p = arguments.min_p.value_or(options.min_p);
    options.presence_penalty = arguments.presence_penalty.value_or(options.presence_penalty);
    options.frequency_penalty = arguments.frequency_penalty.value_or(options.frequency_penalty);
    options.repetition_penalty = arguments.repetition_penalty.value_or(options.repetition_penalty);
    for (const std::string& text : arguments.logit_bias) {
        options.logit_bias.push_back(parse_bias(text, vocabulary));
    }
    return options;
}

std::uint64_t resolve_seed(const sampling_arguments& arguments) {
    if (arguments.seed) return *arguments.seed;
    std::random_device device;
    return std::uint64_t{device()} << 32 | device();
}

}  // namespace qwen
