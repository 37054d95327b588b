#include "qwen_moe_chat/multiple_choice.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace qwen {

namespace {

using nlohmann::json;

constexpr std::string_view blanks = " \t\n\v\f\r";
constexpr std::size_t piece_tokens = 512;

[[noreturn]] void wrong(const std::string& what, const std::string& expected, const std::string& found) {
    hlwq::throw_error<hlwq::format_error>(what + ": expected " + expected + ", found " + found);
}

std::string shown(const json& value) {
    if (value.is_structured()) return value.is_array() ? "a list" : "an object";
    const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
    return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

const json& member(const json& object, const char* key) {
    const auto at = object.find(key);
    if (at == object.end()) wrong(key, "a field", "none");
    return *at;
}

std::string text(const json& object, const char* key) {
    const json& value = member(object, key);
    if (!value.is_string()) wrong(key, "a string", shown(value));
    return value.get<std::string>();
}

std::vector<std::string> texts(const json& object, const char* key) {
    const json& list = member(object, key);
    if (!list.is_array() || list.size() < 2) wrong(key, "a list of at least two strings", shown(list));
    std::vector<std::string> result;
    for (const json& value : list) {
        if (!value.is_string()) wrong(key, "a list of strings", shown(value) + " in it");
        result.push_back(value.get<std::string>());
    }
    return result;
}

/// A number that may be written as a string.
std::size_t number(const json& object, const char* key, std::size_t least, std::size_t most) {
    const json& value = member(object, key);
    const std::string digits = value.is_string() ? value.get<std::string>() : value.dump();
    for (std::size_t i = least; i <= most; ++i) {
        if (digits == std::to_string(i)) return i;
    }
    wrong(key, "a number from " + std::to_string(least) + " to " + std::to_string(most), shown(value));
}

std::string_view strip(std::string_view s) {
    const std::size_t first = s.find_first_not_of(blanks);
    return first == s.npos ? std::string_view() : s.substr(first, s.find_last_not_of(blanks) - first + 1);
}

void replace_all(std::string& s, std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = s.find(from, at)) != s.npos; at += to.size()) s.replace(at, from.size(), to);
}

/// Takes out the marks of the WikiHow part of HellaSwag.
std::string clean(std::string_view raw) {
    std::string s(strip(raw));
    replace_all(s, " [title]", ". ");
    // From a bracket to the next closing one of the same line.
    for (std::size_t open = 0; (open = s.find('[', open)) != s.npos;) {
        const std::size_t close = s.find_first_of("]\n", open);
        if (close != s.npos && s[close] == ']') {
            s.erase(open, close - open + 1);
        } else {
            ++open;
        }
    }
    replace_all(s, "  ", " ");
    return s;
}

/// First letter large, the others small; letters beyond ASCII stay.
std::string capitalised(std::string s) {
    for (char& c : s) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (!s.empty() && s[0] >= 'a' && s[0] <= 'z') s[0] = static_cast<char>(s[0] - 'a' + 'A');
    return s;
}

question hellaswag(const json& line) {
    question q;
    q.shape = question_shape::hellaswag;
    std::string context = line.contains("ctx_a") && line.contains("ctx_b")
                              ? text(line, "ctx_a") + " " + capitalised(text(line, "ctx_b"))
                              : text(line, "ctx");
    if (line.contains("activity_label")) context = text(line, "activity_label") + ": " + context;
    const auto endings = texts(line, "endings");
    q.contexts.assign(endings.size(), clean(context));
    for (const std::string& ending : endings) q.continuations.push_back(" " + clean(ending));
    q.answer = number(line, "label", 0, endings.size() - 1);
    return q;
}

question arc(const json& line) {
    question q;
    q.shape = question_shape::arc;
    const json& choices = member(line, "choices");
    if (!choices.is_object()) wrong("choices", "an object with text and label", shown(choices));
    const auto answers = texts(choices, "text"), labels = texts(choices, "label");
    if (answers.size() != labels.size()) {
        wrong("choices", "as many labels as texts", std::to_string(labels.size()) + " labels");
    }
    q.contexts.assign(answers.size(), "Question: " + text(line, "question") + "\nAnswer:");
    for (const std::string& answer : answers) q.continuations.push_back(" " + answer);
    const auto at = std::ranges::find(labels, text(line, "answerKey"));
    if (at == labels.end()) wrong("answerKey", "one of the labels", shown(line["answerKey"]));
    q.answer = static_cast<std::size_t>(at - labels.begin());
    return q;
}

question winogrande(const json& line) {
    question q;
    q.shape = question_shape::winogrande;
    const std::string sentence = text(line, "sentence");
    const std::size_t gap = sentence.find('_');
    if (gap == sentence.npos) wrong("sentence", "a gap _", "none");
    const std::string rest = " " + std::string(strip(std::string_view(sentence).substr(gap + 1)));
    for (const char* option : {"option1", "option2"}) {
        q.contexts.push_back(sentence.substr(0, gap) + text(line, option));
        q.continuations.push_back(rest);
    }
    q.answer = number(line, "answer", 1, 2) - 1;
    return q;
}

/// One answer as tokens: [0, first) is the context, the rest is scored.
struct encoded_answer {
    std::vector<token_id> ids;
    std::size_t first = 0;
};

encoded_answer encode(const tokenizer& tokens, const std::string& context, const std::string& continuation) {
    const std::string_view stem = std::string_view(context).substr(0, context.find_last_not_of(blanks) + 1);
    encoded_answer result;
    const auto all = tokens.encode(context + continuation, added_tokens::as_text);
    result.ids = tokens.encode(stem, added_tokens::as_text);
    result.first = result.ids.size();
    if (result.first == 0) wrong("context", "some text", "none");
    if (all.size() <= result.first) wrong("an answer", "tokens behind those of its context", "none");
    result.ids.insert(result.ids.end(), all.begin() + static_cast<std::ptrdiff_t>(result.first), all.end());
    return result;
}

/// Length of what all answers begin with, the tokens before the first scored one at most.
std::size_t common_prefix(const std::vector<encoded_answer>& answers) {
    std::size_t common = answers.front().first;
    for (const encoded_answer& answer : answers) {
        common = std::min(common, answer.first);
        const auto& ids = answers.front().ids;
        common = static_cast<std::size_t>(
            std::mismatch(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(common), answer.ids.begin()).first -
            ids.begin());
    }
    return common;
}

std::size_t argmax(std::span<const double> values) noexcept {
    return static_cast<std::size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

}  // namespace

std::string_view to_string(question_shape shape) noexcept {
    switch (shape) {
        case question_shape::arc: return "arc";
        case question_shape::winogrande: return "winogrande";
        case question_shape::hellaswag: break;
    }
    return "hellaswag";
}

question parse_question(std::string_view line) {
    std::string found;
    const json parsed = hlwq::io::parse_json<json>(line, &found);
    if (!parsed.is_object()) wrong("question", "a JSON object", parsed.is_discarded() ? found : shown(parsed));
    if (parsed.contains("endings")) return hellaswag(parsed);
    if (parsed.contains("question") && parsed.contains("choices")) return arc(parsed);
    if (parsed.contains("sentence")) return winogrande(parsed);
    wrong("question",
          "the fields of HellaSwag (ctx, endings, label), ARC (question, choices, answerKey) or Winogrande "
          "(sentence, option1, option2, answer)",
          "none of these");
}

std::size_t question_scores::best() const noexcept { return argmax(log_likelihoods); }

std::size_t question_scores::best_normalised() const noexcept {
    std::vector<double> values(log_likelihoods);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] /= static_cast<double>(bytes[i]);
    return argmax(values);
}

question_scores score(const model& source, const tokenizer& tokens, const question& q, workspace& space,
                      const compute& how) {
    std::vector<encoded_answer> answers;
    question_scores result;
    for (std::size_t i = 0; i < q.continuations.size(); ++i) {
        answers.push_back(encode(tokens, q.contexts[i], q.continuations[i]));
        result.bytes.push_back(std::max<std::size_t>(strip(q.continuations[i]).size(), 1));
    }

    const std::size_t common = common_prefix(answers), hidden = source.config().hidden;
    sequence_state shared(source.config(), kv_type_for(how.mode));
    std::vector<float> last(hidden);
    for (std::size_t begin = 0, end; begin < common; begin = end) {
        end = std::min(common, begin + piece_tokens);
        const sequence_input input{std::span(answers.front().ids).subspan(begin, end - begin), &shared, {}};
        const auto h = source.forward({&input, 1}, space, how);
        std::ranges::copy(h.row(h.rows - 1), last.begin());
    }

    std::vector<sequence_state> states;
    std::vector<sequence_input> batch;
    states.reserve(answers.size());
    std::size_t scored = 0;
    for (const encoded_answer& answer : answers) {
        scored += answer.ids.size() - answer.first;
        const auto rest = std::span(answer.ids).subspan(common, answer.ids.size() - 1 - common);
        if (!rest.empty()) batch.push_back({rest, &states.emplace_back(shared.fork()), {}});
    }
    matrix_view<const float> h;
    if (!batch.empty()) h = source.forward(batch, space, how);

    // Hidden states that predict scored tokens, answer by answer.
    std::vector<float> predicting;
    std::vector<token_id> targets;
    predicting.reserve(scored * hidden);
    std::size_t row = 0;
    for (const encoded_answer& answer : answers) {
        for (std::size_t t = answer.first; t < answer.ids.size(); ++t) {
            const auto from = t == common ? std::span<const float>(last) : h.row(row + t - 1 - common);
            predicting.insert(predicting.end(), from.begin(), from.end());
            targets.push_back(answer.ids[t]);
        }
        row += answer.ids.size() - 1 - common;
    }

    std::vector<double> log_p(scored);
    activations memory;
    const std::size_t once = rows_at_once(source.config().vocabulary);
    for (std::size_t begin = 0; begin < scored; begin += once) {
        const std::size_t end = std::min(scored, begin + once);
        const auto logits = memory.shape(end - begin, source.config().vocabulary);
        source.logits({predicting.data() + begin * hidden, end - begin, hidden}, logits, space, how);
        how.threads.parallel_for(end - begin, 1, [&](std::size_t from, std::size_t to, unsigned) noexcept {
            for (std::size_t i = from; i < to; ++i) {
                log_p[begin + i] = log_probability(logits.row(i), targets[begin + i]);
            }
        });
    }
    std::size_t at = 0;
    for (const encoded_answer& answer : answers) {
        double sum = 0.0;
        for (std::size_t t = answer.first; t < answer.ids.size(); ++t) sum += log_p[at++];
        HLWQ_EXPECTS(std::isfinite(sum), hlwq::value_error, "log-likelihood of an answer", "a finite number", sum);
        result.log_likelihoods.push_back(sum);
    }
    return result;
}

}  // namespace qwen
