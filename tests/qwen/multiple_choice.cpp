// Multiple-choice questions: what the model sees of each shape, and scores against a run of every answer by itself.
#include "golden.hpp"

#include "qwen_moe_chat/multiple_choice.hpp"

#include "hlwq/error.hpp"
#include "hlwq/thread_pool.hpp"

namespace {

using golden::runner;
using qwen::parse_question;
using qwen::question;
using qwen::token_id;

constexpr const char* hellaswag =
    R"({"activity_label": "Baking cookies", "ctx_a": "A tray  is on the table. [header] Tips",
    "ctx_b": "the Baker", "ctx": "unused", "endings": ["puts it [substeps] away.", " eats ", "sings [title] Songs",
    "is "], "label": "2", "split": "val"})";
constexpr const char* arc = R"({"id": "x", "question": "What is 2 + 2?", "choices": {"text": ["3", "four", "4 "],
    "label": ["A", "B", "C"]}, "answerKey": "B"})";
constexpr const char* winogrande = R"({"sentence": "Ann gave Bea the key because _ was leaving. ", "option1": "Ann",
    "option2": "Bea", "answer": "1"})";

/// A tokenizer of bytes whose ids stay below 300.
const qwen::tokenizer& bytes() {
    static const qwen::tokenizer tokens = [] {
        nlohmann::json json = golden::read_json(golden::data_folder() / "tokenizer" / "tokenizer_qwen35.json");
        nlohmann::json vocabulary = nlohmann::json::object();
        for (const auto& entry : json["model"]["vocab"].items()) {
            // Single characters stand for the bytes.
            const std::size_t length = entry.key().size();
            if (length == 1 || (length == 2 && static_cast<unsigned char>(entry.key()[0]) >= 0xc0)) {
                vocabulary[entry.key()] = vocabulary.size();
            }
        }
        json["model"]["vocab"] = vocabulary;
        json["model"]["merges"] = nlohmann::json::array();
        json["added_tokens"] = nlohmann::json::array();
        return qwen::tokenizer(json.dump(), "bytes");
    }();
    return tokens;
}

/// Σ ln p of the tokens behind `context`, in a run of their own.
double alone(const qwen::model& model, const std::string& context, const std::string& continuation) {
    const auto whole = bytes().encode(context + continuation);
    const std::size_t first = bytes().encode(context).size();
    runner r(model);
    const auto rows = r.logits_of(whole, {whole.size()});
    double sum = 0.0;
    for (std::size_t t = first; t < whole.size(); ++t) {
        double total = 0.0;
        for (const float x : rows.view().row(t - 1)) total += std::exp(static_cast<double>(x));
        sum += static_cast<double>(rows.view().row(t - 1)[whole[t]]) - std::log(total);
    }
    return sum;
}

}  // namespace

TEST_CASE("the model sees what lm-eval shows it") {
    const question h = parse_question(hellaswag);
    CHECK(h.contexts == std::vector<std::string>(4, "Baking cookies: A tray is on the table. Tips The baker"));
    CHECK(h.continuations == std::vector<std::string>{" puts it away.", " eats", " sings. Songs", " is"});
    CHECK(h.answer == 2);
    const question plain = parse_question(R"({"ctx": "A cat", "endings": ["sits", "flies"], "label": 0})");
    CHECK(plain.contexts[0] == "A cat");
    CHECK(plain.answer == 0);

    const question a = parse_question(arc);
    CHECK(a.contexts == std::vector<std::string>(3, "Question: What is 2 + 2?\nAnswer:"));
    CHECK(a.continuations == std::vector<std::string>{" 3", " four", " 4 "});
    CHECK(a.answer == 1);

    const question w = parse_question(winogrande);
    CHECK(w.contexts ==
          std::vector<std::string>{"Ann gave Bea the key because Ann", "Ann gave Bea the key because Bea"});
    CHECK(w.continuations == std::vector<std::string>(2, " was leaving."));
    CHECK(w.answer == 0);
}

TEST_CASE("lines that are no question say what is wrong") {
    const std::pair<const char*, const char*> lines[] = {
        {"{", "question: expected a JSON object, found a syntax error at byte"},
        {"[1]", "question: expected a JSON object, found a list"},
        {"{}", "found none of these"},
        {R"({"ctx": "a", "endings": ["b", "c"]})", "label: expected a field, found none"},
        {R"({"ctx": "a", "endings": ["b", "c"], "label": 2})", "label: expected a number from 0 to 1, found 2"},
        {R"({"ctx": "a", "endings": ["b", "c"], "label": ""})", "label: expected a number from 0 to 1, found \"\""},
        {R"({"ctx": "a", "endings": ["b"], "label": 0})", "endings: expected a list of at least two strings"},
        {R"({"ctx": "a", "endings": ["b", 3], "label": 0})", "endings: expected a list of strings, found 3 in it"},
        {R"({"ctx": 7, "endings": ["b", "c"], "label": 0})", "ctx: expected a string, found 7"},
        {R"({"question": "q", "choices": ["a"], "answerKey": "A"})", "choices: expected an object"},
        {R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B", "C"]}, "answerKey": "A"})",
         "choices: expected as many labels as texts, found 3 labels"},
        {R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "C"})",
         "answerKey: expected one of the labels, found \"C\""},
        {R"({"sentence": "none", "option1": "a", "option2": "b", "answer": 1})", "sentence: expected a gap _"},
        {R"({"sentence": "a _ b", "option1": "a", "answer": 1})", "option2: expected a field"},
        {R"({"sentence": "a _ b", "option1": "a", "option2": "b", "answer": 0})", "answer: expected a number from 1"}};
    for (const auto& line : lines) {
        CAPTURE(line.first);
        std::string message;
        try {
            parse_question(line.first);
        } catch (const hlwq::format_error& error) {
            message = error.what();
        }
        CHECK_MESSAGE(message.find(line.second) != std::string::npos, message);
    }
}

TEST_CASE("forks of the shared beginning give what every answer gives alone") {
    for (const char* name : {"moe_tiny", "dense_tiny"}) {
        const qwen::model model(golden::data_folder() / name);
        for (const unsigned threads : {1u, 2u}) {
            hlwq::thread_pool pool(threads);
            qwen::workspace space(model.config());
            for (const char* line : {hellaswag, arc, winogrande}) {
                const question q = parse_question(line);
                const auto scores = qwen::score(model, bytes(), q, space, {pool});
                REQUIRE(scores.log_likelihoods.size() == q.continuations.size());
                for (std::size_t i = 0; i < q.continuations.size(); ++i) {
                    const double expected = alone(model, q.contexts[i], q.continuations[i]);
                    CHECK(scores.log_likelihoods[i] == doctest::Approx(expected).epsilon(1e-4));
                }
            }
        }
    }
}

TEST_CASE("answers of one token, and answers that begin alike") {
    const qwen::model model(golden::data_folder() / "moe_tiny");
    hlwq::serial_executor serial;
    qwen::workspace space(model.config());
    question q;
    q.contexts = {"ab", "ab", "ab", "a"};
    q.continuations = {"c", "cd", "cdx", "bc"};
    const auto scores = qwen::score(model, bytes(), q, space, {serial});
    for (std::size_t i = 0; i < 4; ++i) {
        CHECK(scores.log_likelihoods[i] ==
              doctest::Approx(alone(model, q.contexts[i], q.continuations[i])).epsilon(1e-4));
    }
    // Blanks at the end of a context are scored with the continuation.
    q.contexts = {"ab ", "ab"};
    q.continuations = {"c", " c"};
    const auto blanks = qwen::score(model, bytes(), q, space, {serial});
    CHECK(blanks.log_likelihoods[0] == blanks.log_likelihoods[1]);

    q.contexts = {"", "a"};
    CHECK_THROWS_WITH_AS(qwen::score(model, bytes(), q, space, {serial}), "context: expected some text, found none",
                         hlwq::format_error);
    q.contexts = {"a", "a"};
    q.continuations = {"", "b"};
    CHECK_THROWS_AS(qwen::score(model, bytes(), q, space, {serial}), hlwq::format_error);
}

TEST_CASE("the best answer, and the best for its length") {
    const qwen::question_scores scores{{-6.0, -5.0, -5.0, -8.0}, {4, 2, 2, 8}};
    CHECK(scores.best() == 1);             // the first of equals
    CHECK(scores.best_normalised() == 3);  // -1.5, -2.5, -2.5, -1 a byte
}
