#include "qwen_moe_chat/generation_config.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"
#include "hlwq/io/json.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace qwen {

namespace {

using nlohmann::json;

constexpr const char* file_name = "generation_config.json";

[[noreturn]] void wrong(const char* key, std::string_view expected, const json& found) {
    std::string text =
        found.is_structured() ? found.type_name() : found.dump(-1, ' ', true, json::error_handler_t::replace);
    if (text.size() > 80) text = text.substr(0, 77) + "...";
    hlwq::throw_error<hlwq::format_error>(std::string(file_name) + ": " + key + ": expected " + std::string(expected) +
                                          ", found " + text);
}

/// Null where the field is absent or null.
const json* find(const json& object, const char* key) {
    const auto at = object.find(key);
    return at == object.end() || at->is_null() ? nullptr : &*at;
}

void read(const json& object, const char* key, double low, double high, const char* expected, double& to) {
    const json* value = find(object, key);
    if (value == nullptr) return;
    if (!value->is_number()) wrong(key, expected, *value);
    const double number = value->get<double>();
    if (!(number >= low && number <= high)) wrong(key, expected, *value);
    to = number;
}

/// -1 stands for "all" and "no limit" in files written by some servers.
std::optional<std::size_t> read_count(const json& object, const char* key, const char* expected) {
    const json* value = find(object, key);
    if (value == nullptr) return std::nullopt;
    if (*value == -1) return std::nullopt;
    if (!value->is_number_unsigned()) wrong(key, expected, *value);
    return value->get<std::size_t>();
}

void append(std::vector<token_id>& to, token_id id) {
    if (std::ranges::find(to, id) == to.end()) to.push_back(id);
}

std::vector<token_id> read_end_tokens(const json& object) {
    const json* value = find(object, "eos_token_id");
    if (value == nullptr) return {};
    std::vector<token_id> tokens;
    const json list = value->is_array() ? *value : json::array({*value});
    for (const json& token : list) {
        if (!token.is_number_unsigned() || token.get<std::uint64_t>() > std::numeric_limits<token_id>::max()) {
            wrong("eos_token_id", "a token id or a list of them", token);
        }
        append(tokens, token.get<token_id>());
    }
    return tokens;
}

}  // namespace

generation_config read_generation_config(const json& object) {
    if (!object.is_object()) {
        hlwq::throw_error<hlwq::format_error>(std::string(file_name) + ": expected a JSON object, found " +
                                              (object.type_name()));
    }
    constexpr double most = std::numeric_limits<double>::max();
    generation_config config;
    if (const json* sample = find(object, "do_sample")) {
        if (!sample->is_boolean()) wrong("do_sample", "true or false", *sample);
        config.do_sample = sample->get<bool>();
    }
    sampling_options& s = config.sampling;
    s.top_k = 50;
    if (find(object, "top_k") != nullptr) s.top_k = read_count(object, "top_k", "an integer from 0").value_or(0);
    read(object, "temperature", 0.0, most, "a number from 0", s.temperature);
    read(object, "top_p", 0.0, 1.0, "a number from 0 to 1", s.top_p);
    read(object, "min_p", 0.0, 1.0, "a number from 0 to 1", s.min_p);
    read(object, "presence_penalty", -most, most, "a number", s.presence_penalty);
    read(object, "frequency_penalty", -most, most, "a number", s.frequency_penalty);
    read(object, "repetition_penalty", std::numeric_limits<double>::min(), most, "a number above 0",
         s.repetition_penalty);
    config.max_new_tokens = read_count(object, "max_new_tokens", "an integer from 1");
    if (config.max_new_tokens == 0) wrong("max_new_tokens", "an integer from 1", object["max_new_tokens"]);
    config.end_tokens = read_end_tokens(object);
    return config;
}

generation_config read_generation_config(const std::filesystem::path& folder) {
    const auto path = folder / file_name;
    if (!std::filesystem::exists(path)) return read_generation_config(json::object());
    std::string found;
    const json object = hlwq::io::parse_json(hlwq::io::read_text_file(path), &found);
    if (object.is_discarded()) {
        hlwq::throw_error<hlwq::format_error>(path.string() + ": expected a JSON object, found " + found);
    }
    return read_generation_config(object);
}

std::vector<token_id> end_tokens(const model_config& config, const generation_config& generation,
                                 const tokenizer& text) {
    std::vector<token_id> tokens = config.end_tokens;
    for (const token_id id : generation.end_tokens) {
        if (id >= config.vocabulary) {
            wrong("eos_token_id", "token ids below " + std::to_string(config.vocabulary), json(id));
        }
        append(tokens, id);
    }
    for (const char* name : {"<|im_end|>", "<|endoftext|>"}) {
        const token_id* id = text.find(name);
        if (id != nullptr && *id < config.vocabulary) append(tokens, *id);
    }
    return tokens;
}

std::vector<token_id> unused_tokens(const model_config& config, const tokenizer& text) {
    constexpr std::string_view of_sound[] = {"<|audio_start|>", "<|audio_end|>",  "<|audio_pad|>",        "<tts_pad>",
                                             "<tts_text_bos>",  "<tts_text_eod>", "<tts_text_bos_single>"};
    std::vector<token_id> tokens;
    for (token_id id = 0; id < config.vocabulary; ++id) {
        const std::string_view bytes = text.bytes_of(id);
        if (bytes.empty() || (text.is_added(id) && std::ranges::find(of_sound, bytes) != std::end(of_sound))) {
            tokens.push_back(id);
        }
    }
    return tokens;
}

}  // namespace qwen
