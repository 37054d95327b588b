// Whatever config.json says, reading it ends with numbers that fit together, or an hlwq::error.
#include "qwen_moe_chat/config.hpp"

#include "hlwq/error.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace {

void require(bool condition) {
    if (!condition) __builtin_trap();
}

void check(const qwen::model_config& config) {
    require(config.hidden != 0 && config.vocabulary != 0 && !config.mixers.empty());
    require(std::isfinite(config.norm_epsilon));
    require(config.attention.heads % config.attention.kv_heads == 0);
    require(config.rope.rotary_dim % 2 == 0 && config.rope.rotary_dim <= config.attention.head_dim);
    require(config.rope.sections[0] + config.rope.sections[1] + config.rope.sections[2] == config.rope.rotary_dim / 2);
    require(config.is_moe() ? config.moe.chosen <= config.moe.experts && config.moe.width != 0
                            : config.dense_width != 0);
    if (std::ranges::count(config.mixers, qwen::mixer_kind::gated_delta_net) != 0) {
        require(config.gdn.value_heads % config.gdn.key_heads == 0 && config.gdn.kernel != 0);
    }
    for (const qwen::token_id id : config.end_tokens) require(id < config.vocabulary);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto json = nlohmann::json::parse(data, data + size, nullptr, false);
    if (json.is_discarded()) return 0;
    try {
        check(qwen::read_config(json));
    } catch (const hlwq::error&) {
    }
    return 0;
}
