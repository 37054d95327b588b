// qwen_moe_chat/multiple_choice.hpp — questions with given answers, scored by the likelihood of each answer
//
// One question is one JSON object; its fields say which shape it has, and the text that the model sees is that of the
// tasks of the same name in lm-eval:
//
//   hellaswag   ctx (or activity_label, ctx_a, ctx_b), endings, label
//               "<activity>: <ctx>" + " " + ending, bracketed remarks removed
//   arc         question, choices {text, label}, answerKey
//               "Question: <question>\nAnswer:" + " " + text
//   winogrande  sentence with one "_", option1, option2, answer
//               partial evaluation: the same rest of the sentence behind either option
//
// Tokens, as lm-eval cuts them: context and continuation are encoded together, and the continuation's tokens are those
// behind as many as the context alone has; blanks at the end of a context belong to the continuation. Special tokens
// written out in a question are text. The answer with the highest Σ ln p of its tokens wins; for the normalised score
// Σ ln p is divided by the bytes of the answer without the blank in front (lm-eval's acc_norm counts characters: the
// same for ASCII; its acc_bytes counts bytes). The first of equals wins.
//
// What all answers begin with runs once; the answers continue from forks of that state, in one call.
//
//   throws   format_error for what is no such question; what tokenizer and model throw
#pragma once

#include "qwen_moe_chat/evaluation.hpp"
#include "qwen_moe_chat/tokenizer.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qwen {

enum class question_shape : std::uint8_t { hellaswag, arc, winogrande };
std::string_view to_string(question_shape shape) noexcept;

/// A question as the model sees it.
struct question {
    question_shape shape = question_shape::hellaswag;
    std::vector<std::string> contexts;       // of each answer
    std::vector<std::string> continuations;  // of each answer, with the blank in front
    std::size_t answer = 0;                  // the right one
};

/// The question of one line; the error names what is wrong with the line, not where it stands.
question parse_question(std::string_view line);

/// What a model makes of one question.
struct question_scores {
    std::vector<double> log_likelihoods;  // of each answer
    std::vector<std::size_t> bytes;       // of each answer
    /// The answer that wins.
    std::size_t best() const noexcept;
    std::size_t best_normalised() const noexcept;
};
question_scores score(const model& source, const tokenizer& tokens, const question& q, workspace& space,
                      const compute& how);

}  // namespace qwen
