// Whatever a chat template says, reading and rendering it ends: with UTF-8 of bounded length, twice the same, or an
// hlwq::error.
#include "qwen_moe_chat/chat_template.hpp"
#include "qwen_moe_chat/utf8.hpp"

#include "hlwq/error.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace {

void require(bool condition) {
    if (!condition) __builtin_trap();
}

const nlohmann::ordered_json& variables() {
    static const auto parsed = nlohmann::ordered_json::parse(R"({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": " h\u00e9llo\u3000"}, {"type": "image"}]},
            {"role": "assistant", "content": "<think>\na\n</think>\n\nb", "reasoning_content": null,
             "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1, "y": [1, 2.5, null, true], "z": "\n\""}}}]},
            {"role": "tool", "content": "4"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "add_generation_prompt": true, "enable_thinking": false, "n": -9223372036854775808, "u": 18446744073709551615,
        "f": 1e300, "s": "ab", "list": [3, 1, 2], "bos_token": "<s>"})");
    return parsed;
}

/// The text, or nothing where the template is refused.
std::optional<std::string> render(std::string_view source) {
    try {
        return qwen::chat_template(source, "t").render(variables(), qwen::chat_template::most_work / 50);
    } catch (const hlwq::error&) {
        return std::nullopt;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view source(reinterpret_cast<const char*>(data), size);
    const auto text = render(source);
    require(render(source) == text);
    if (text) require(text->size() <= 64 << 20 && qwen::find_invalid_utf8(*text) == text->npos);
    return 0;
}
