// Conversations: what their prompts say, where they part, and that reading on from a snapshot changes nothing.
#include "golden.hpp"
#include "small_text.hpp"

#include "qwen_moe_chat/conversation.hpp"
#include "qwen_moe_chat/generation.hpp"
#include "qwen_moe_chat/generation_config.hpp"

#include "hlwq/error.hpp"
#include "hlwq/executor.hpp"

#include <unistd.h>

namespace {

using qwen::token_id;
using json = nlohmann::ordered_json;

// Templates of our own in ChatML. The second drops the thinking of earlier answers and opens <think>, as Qwen's do.
constexpr const char* plain = R"({%- for m in messages %}
{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %})";
constexpr const char* thinking = R"({%- for m in messages %}
{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.role == 'assistant' and loop.last and m.reasoning_content %}
{{- '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}
{%- endif %}
{{- m.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n<think>\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '\n</think>\n\n' }}{%- endif %}
{%- endif %})";

qwen::chat_prompt prompt_of(const char* source, const qwen::conversation& talk, json extra = json::object()) {
    extra["messages"] = talk.messages();
    return qwen::make_prompt(qwen::chat_format(std::string_view(source)), small::tokenizer(), extra);
}

std::string text_of(const qwen::chat_prompt& prompt, std::size_t length = std::string::npos) {
    return small::tokenizer().decode(std::span(prompt.ids).first(std::min(length, prompt.ids.size())));
}

}  // namespace

TEST_CASE("a prompt, and where later ones part from it") {
    qwen::conversation talk;
    talk.set_system("Be brief.");
    talk.add_user("One?");
    auto prompt = prompt_of(plain, talk);
    CHECK(text_of(prompt) ==
          "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n");
    REQUIRE(prompt.snapshots.size() == 2);
    CHECK(text_of(prompt, prompt.snapshots[0]) == "<|im_start|>system\nBe brief.<|im_end|>\n");
    CHECK(text_of(prompt, prompt.snapshots[1]) ==
          "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n");
    CHECK_FALSE(prompt.thinking);

    talk.add_assistant("1.", "count");
    talk.add_user("Two?");
    prompt = prompt_of(thinking, talk);
    CHECK(text_of(prompt).ends_with("<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n<think>\n"));
    CHECK(text_of(prompt).find("count") == std::string::npos);
    REQUIRE(prompt.snapshots.size() == 2);
    CHECK(text_of(prompt, prompt.snapshots[1]).ends_with("Two?<|im_end|>\n"));
    CHECK(prompt.thinking);
    CHECK_FALSE(prompt_of(thinking, talk, {{"enable_thinking", false}}).thinking);
    CHECK(prompt_of(thinking, talk, {{"enable_thinking", true}}).thinking);

    qwen::conversation one;
    one.add_user("I wrote <think> myself");
    prompt = prompt_of(plain, one);
    CHECK(prompt.snapshots.size() == 1);
    CHECK_FALSE(prompt.thinking);
}

TEST_CASE("a template without a common beginning leaves no snapshot beyond it") {
    qwen::conversation talk;
    talk.add_user("x");
    const auto prompt = prompt_of("{{ 'A' if add_generation_prompt else 'B' }}{{ messages[0].content }}", talk);
    CHECK(text_of(prompt) == "Ax");
    CHECK(prompt.snapshots.empty());
}

TEST_CASE("messages come, go and come back") {
    qwen::conversation talk;
    CHECK_FALSE(talk.remove_answer());
    CHECK_FALSE(talk.remove_turn().has_value());
    talk.set_system("S");
    CHECK_FALSE(talk.remove_turn().has_value());
    talk.add_user("a");
    talk.add_assistant("b", "");
    talk.add_user("c \"quoted\"\n é");
    talk.add_assistant("d", "thought");
    CHECK(talk.turns() == 4);
    CHECK(talk.messages().size() == 5);

    const auto copy = qwen::conversation::from_json(talk.to_json(), "file");
    CHECK(copy.messages() == talk.messages());
    CHECK(copy.messages()[4]["reasoning_content"] == "thought");
    CHECK_FALSE(copy.messages()[2].contains("reasoning_content"));

    CHECK(talk.remove_answer());
    CHECK_FALSE(talk.remove_answer());
    CHECK(talk.remove_turn() == "c \"quoted\"\n é");
    CHECK(talk.turns() == 2);
    CHECK(talk.remove_turn() == "a");
    CHECK(talk.turns() == 0);
    CHECK(talk.system() == "S");
    talk.set_system("T");
    CHECK(talk.messages().size() == 1);
    talk.add_user("e");
    talk.clear();
    CHECK(talk.messages().size() == 1);
    talk.set_system(std::nullopt);
    CHECK(talk.empty());
}

TEST_CASE("files that are no conversation are refused") {
    const auto refused = [](const char* text, const char* part) {
        try {
            qwen::conversation::from_json(text, "talk.json");
            FAIL("accepted: expected an error with " << part);
        } catch (const hlwq::format_error& error) {
            CHECK_MESSAGE(std::string(error.what()).find(part) != std::string::npos, error.what());
        }
    };
    refused("", "talk.json: expected a JSON object with a list 'messages', found nothing");
    refused("[]", "found another");
    refused(R"({"messages": {}})", "found another");
    refused(R"({"messages": [{"role": "user", "content": "x"}, {"role": "user"}]})", "in message 1 ");
    refused(R"({"messages": [{"role": 3, "content": "x"}]})", "in message 0 ");
    refused(R"({"messages": ["x"]})", "in message 0 ");
    refused("{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}]}", "found a syntax error at byte");
}

TEST_CASE("templates and special tokens of a folder") {
    namespace fs = std::filesystem;
    const fs::path folder = fs::temp_directory_path() / ("hlwq-conversation-" + std::to_string(::getpid()));
    fs::create_directories(folder);
    struct remover {
        const fs::path& folder;
        ~remover() { fs::remove_all(folder); }
    } const at_end{folder};
    CHECK_THROWS_AS(qwen::chat_format{folder}, hlwq::format_error);
    hlwq::io::write_text_atomically(folder / "tokenizer_config.json", "{");
    CHECK_THROWS_AS(qwen::chat_format{folder}, hlwq::format_error);
    hlwq::io::write_text_atomically(folder / "tokenizer_config.json",
                                    R"({"chat_template": "old {{ eos_token }}", "eos_token": {"content": "<e>"}})");
    CHECK(qwen::chat_format(folder).render({{"messages", json::array()}}) == "old <e>");
    hlwq::io::write_text_atomically(folder / "chat_template.jinja", "new {{ eos_token }} {{ x }}");
    CHECK(qwen::chat_format(folder).render({{"x", 3}}) == "new <e> 3");
    CHECK(qwen::chat_format(folder).render({{"x", 3}, {"eos_token", "mine"}}) == "new mine 3");
}

TEST_CASE("a conversation with snapshots says what it says without them") {
    const qwen::model model(golden::data_folder() / "moe_tiny");
    hlwq::serial_executor serial;
    const qwen::compute how{serial};
    const auto unused = qwen::unused_tokens(model.config(), small::tokenizer());
    for (const char* source : {plain, thinking}) {
        const qwen::chat_format format{std::string_view(source)};
        qwen::generator with(model, small::tokenizer(), {}, how);
        qwen::conversation talk;
        talk.set_system("You answer at random.");
        std::vector<std::size_t> behind_question;
        for (int turn = 0; turn < 4; ++turn) {
            talk.add_user("Question " + std::to_string(turn));
            const auto prompt = qwen::make_prompt(format, small::tokenizer(), {{"messages", talk.messages()}});
            const qwen::prompt from{prompt.ids, prompt.snapshots};
            qwen::sampler choose({.temperature = 0.0}, 512, unused, 1);
            const auto result = with.generate(from, choose, {.max_tokens = 16});
            qwen::generator fresh(model, small::tokenizer(), {}, how, 0);
            const auto expected = fresh.generate(from, choose, {.max_tokens = 16});
            CHECK(result.tokens == expected.tokens);
            CHECK(expected.reused_tokens == 0);
            // Either the whole last answer fits, or what stood before it is read on.
            if (turn > 0) CHECK(result.reused_tokens >= behind_question.back());
            behind_question.push_back(prompt.snapshots.back());
            talk.add_assistant("Answer " + std::to_string(turn), "thought");
        }
    }
}
