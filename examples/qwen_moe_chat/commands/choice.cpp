// choice FILE.jsonl: accuracy on multiple-choice questions
#include "qwen_moe_chat/commands/command.hpp"
#include "qwen_moe_chat/multiple_choice.hpp"

#include "console/progress.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qwen {

namespace {

struct choice_options {
    model_options model;
    std::filesystem::path file;
    std::size_t limit = 0;  // 0: all
    bool json = false;
};

constexpr question_shape shapes[] = {question_shape::hellaswag, question_shape::arc, question_shape::winogrande};

struct tally {
    std::size_t items = 0, right = 0, right_normalised = 0;

    void count(const question& q, const question_scores& scores) {
        ++items;
        right += scores.best() == q.answer ? 1 : 0;
        right_normalised += scores.best_normalised() == q.answer ? 1 : 0;
    }
    double share(std::size_t count) const { return static_cast<double>(count) / static_cast<double>(items); }
    nlohmann::ordered_json json() const {
        const double accuracy = share(right), normalised = share(right_normalised);
        return {{"accuracy", accuracy},
                {"accuracy_stderr", share_error(accuracy, items)},
                {"accuracy_norm", normalised},
                {"accuracy_norm_stderr", share_error(normalised, items)},
                {"items", items}};
    }
    void print(std::string_view name) const {
        const double accuracy = share(right), normalised = share(right_normalised);
        std::printf("%-12.*s %6zu   %6.2f ± %.2f %%   %6.2f ± %.2f %%\n", static_cast<int>(name.size()), name.data(),
                    items, 100.0 * accuracy, 100.0 * share_error(accuracy, items), 100.0 * normalised,
                    100.0 * share_error(normalised, items));
    }
};

/// Lines that are not empty, each with its number.
std::vector<std::pair<std::size_t, std::string_view>> lines_of(std::string_view text) {
    std::vector<std::pair<std::size_t, std::string_view>> lines;
    for (std::size_t at = 0, number = 1; at < text.size(); ++number) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        const std::string_view line = text.substr(at, end - at);
        if (line.find_first_not_of(" \t\r") != line.npos) lines.emplace_back(number, line);
        at = end + 1;
    }
    return lines;
}

/// Calls f and adds the line to its errors.
template <class F>
auto at_line(const choice_options& options, std::size_t line, F&& f) {
    const auto where = [&](const std::exception& error) {
        return options.file.string() + ", line " + std::to_string(line) + ": " + error.what();
    };
    try {
        return f();
    } catch (const hlwq::format_error& error) {
        hlwq::throw_error<hlwq::format_error>(where(error));
    } catch (const hlwq::value_error& error) {
        hlwq::throw_error<hlwq::value_error>(where(error));
    }
}

void run_choice(const choice_options& options) {
    const std::string text = hlwq::io::read_text_file(options.file, std::size_t{1} << 30);
    auto lines = lines_of(text);
    HLWQ_EXPECTS(!lines.empty(), hlwq::format_error, options.file.string(), "a question a line", "an empty file");
    if (options.limit != 0) lines.resize(std::min(lines.size(), options.limit));
    // All of them before the first is scored: a mistake in the last line shall not cost hours.
    std::vector<question> questions;
    for (const auto& entry : lines) {
        questions.push_back(at_line(options, entry.first, [&] { return parse_question(entry.second); }));
    }

    const tokenizer tokens(options.model.model / "tokenizer.json");
    const session run(options.model);
    workspace space(run.model().config());
    tally all;
    std::array<tally, std::size(shapes)> by_shape;
    console::progress bar("choice", "questions", questions.size(), 0);
    for (std::size_t i = 0; i < questions.size(); ++i) {
        const question& q = questions[i];
        const question_scores scores =
            at_line(options, lines[i].first, [&] { return score(run.model(), tokens, q, space, run.how()); });
        all.count(q, scores);
        by_shape[static_cast<std::size_t>(q.shape)].count(q, scores);
        bar.advance(1, 0, to_string(q.shape));
    }
    bar.finish();
    if (options.json) {
        nlohmann::ordered_json json = all.json();
        for (const question_shape shape : shapes) {
            const tally& t = by_shape[static_cast<std::size_t>(shape)];
            if (t.items != 0) json["shapes"][std::string(to_string(shape))] = t.json();
        }
        std::printf("%s\n", json.dump(1).c_str());
        return;
    }
    std::printf("%-12s %6s   %-16s   %s\n", "shape", "items", "accuracy", "normalised by bytes");
    for (const question_shape shape : shapes) {
        const tally& t = by_shape[static_cast<std::size_t>(shape)];
        if (t.items != 0) t.print(to_string(shape));
    }
    all.print("all");
}

}  // namespace

void add_choice(CLI::App& app) {
    auto* sub = app.add_subcommand("choice", "accuracy on multiple-choice questions, by the likelihood of each answer");
    auto options = std::make_shared<choice_options>();
    sub->add_option("FILE", options->file,
                    "a JSON object a line: HellaSwag (ctx, endings, label), ARC (question, choices, answerKey) or "
                    "Winogrande (sentence, option1, option2, answer)")
        ->required()
        ->type_name("FILE.jsonl");
    sub->add_option("--limit", options->limit, "only the first N questions (default: all)")
        ->check(CLI::PositiveNumber)
        ->type_name("N");
    add_options(*sub, options->model);
    sub->add_flag("--json", options->json, "the result as one JSON object on stdout");
    sub->callback([options] { run_choice(*options); });
}

}  // namespace qwen
