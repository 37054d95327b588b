// perplexity --file TEXT, kld --base DIR|FILE --file TEXT: how well a model predicts a text, and how far it departs
// from another one
#include "qwen_moe_chat/commands/command.hpp"
#include "qwen_moe_chat/evaluation.hpp"
#include "qwen_moe_chat/saved_logits.hpp"
#include "qwen_moe_chat/tokenizer.hpp"

#include "console/progress.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace qwen {

namespace {

constexpr std::size_t longest_text = std::size_t{4} << 30;

struct text_options {
    model_options model;
    std::filesystem::path file;
    std::size_t tokens = 0;  // 0: all
    std::size_t ctx = window_protocol().window;
    std::optional<std::size_t> stride;
    std::string score = "second-half";
    bool json = false;
};

struct perplexity_options : text_options {
    std::filesystem::path save;
};

struct kld_options : text_options {
    std::filesystem::path base;
};

void add_text_options(CLI::App& app, text_options& to) {
    app.add_option("--file", to.file,
                   "UTF-8 text; special tokens written out in it (<|endoftext|>, <|im_start|>) are those tokens, and "
                   "nothing is added")
        ->required()
        ->type_name("TEXT");
    app.add_option("--tokens", to.tokens, "only the first N tokens of the text (default: all)")
        ->check(CLI::PositiveNumber)
        ->type_name("N");
    app.add_option("--ctx", to.ctx, "tokens of a window")
        ->check(CLI::Range(std::size_t{2}, std::size_t{1} << 24))
        ->capture_default_str()
        ->type_name("N");
    auto* score = app.add_option("--score", to.score,
                                 "which tokens of each window are scored: its second half as in "
                                 "llama.cpp, or all")
                      ->check(CLI::IsMember({"second-half", "all"}))
                      ->capture_default_str()
                      ->type_name("second-half|all");
    app.add_option("--stride", to.stride, "sliding windows that begin N tokens apart, every token scored once")
        ->check(CLI::PositiveNumber)
        ->excludes(score)
        ->type_name("N");
    add_options(app, to.model);
    app.add_flag("--json", to.json, "the result as one JSON object on stdout");
}

window_protocol protocol_of(const text_options& options) {
    window_protocol protocol;
    protocol.window = options.ctx;
    if (options.stride) {
        if (*options.stride >= options.ctx) {
            throw usage_error("--stride: expected less than --ctx, " + std::to_string(options.ctx) + ", found " +
                              std::to_string(*options.stride));
        }
        protocol.scored = scored_tokens::sliding;
        protocol.stride = *options.stride;
    } else if (options.score == "all") {
        protocol.scored = scored_tokens::all;
    } else if (options.ctx < 4) {
        throw usage_error("--ctx: expected at least 4 to score a second half, found " + std::to_string(options.ctx));
    }
    return protocol;
}

/// The text's tokens, as many as are asked for.
std::vector<token_id> read_text(const text_options& options, const std::filesystem::path& model) {
    const tokenizer tokens(model / "tokenizer.json");
    std::vector<token_id> ids;
    try {
        ids = tokens.encode(hlwq::io::read_text_file(options.file, longest_text));
    } catch (const hlwq::format_error& error) {
        hlwq::throw_error<hlwq::format_error>(options.file.string() + ": " + error.what());
    }
    if (options.tokens != 0) ids.resize(std::min(ids.size(), options.tokens));
    return ids;
}

/// A progress bar that counts the tokens that the model runs over.
class token_progress {
  public:
    token_progress(const char* label, std::size_t tokens) : bar_(label, "tokens", tokens, 0) {}
    std::function<void(std::size_t)> advance() {
        return [this](std::size_t tokens) { bar_.advance(tokens, 0, {}); };
    }
    void finish() { bar_.finish(); }

  private:
    console::progress bar_;
};

void print_protocol(const window_protocol& protocol, std::size_t scored, std::size_t tokens) {
    std::printf("protocol     %s\n", describe(protocol).c_str());
    std::printf("tokens       %zu scored of %zu\n", scored, tokens);
}

nlohmann::ordered_json protocol_json(const window_protocol& protocol, std::size_t tokens) {
    nlohmann::ordered_json json{{"protocol", describe(protocol)}, {"ctx", protocol.window}, {"stride", nullptr}};
    if (protocol.scored == scored_tokens::sliding) json["stride"] = protocol.stride;
    json["text_tokens"] = tokens;
    return json;
}

void run_perplexity(const perplexity_options& options) {
    const window_protocol protocol = protocol_of(options);
    const std::vector<token_id> ids = read_text(options, options.model.model);
    const auto windows = windows_of(ids.size(), protocol);
    const session run(options.model);

    std::optional<logits_writer> saved;
    if (!options.save.empty()) saved.emplace(options.save, ids, protocol, run.model().config().vocabulary);
    token_progress bar("perplexity", fed_count(windows));
    evaluation_watch watch{bar.advance(), {}};
    if (saved) watch.logits = [&](matrix_view<const float> rows) { saved->append(rows); };

    model_logits source(run.model(), run.how());
    const perplexity_result result = perplexity(source, ids, protocol, run.how().threads, watch);
    if (saved) saved->finish();
    bar.finish();
    if (options.json) {
        nlohmann::ordered_json json{{"ppl", result.ppl},
                                    {"ppl_stderr", result.ppl_error},
                                    {"nll", result.nll.mean},
                                    {"nll_stderr", result.nll.error},
                                    {"tokens", result.tokens}};
        json.update(protocol_json(protocol, ids.size()));
        std::printf("%s\n", json.dump(1).c_str());
        return;
    }
    print_protocol(protocol, result.tokens, ids.size());
    std::printf("perplexity   %.4f ± %.4f\n", result.ppl, result.ppl_error);
    std::printf("nll          %.5f ± %.5f nats a token\n", result.nll.mean, result.nll.error);
}

/// Refuses a base whose tokenizer cuts the text in another way.
void require_same_tokens(const text_options& options, const std::filesystem::path& base,
                         std::span<const token_id> ids) {
    const std::vector<token_id> other = read_text(options, base);
    const auto [a, b] = std::ranges::mismatch(ids, other);
    if (a == ids.end() && b == other.end()) return;
    const auto show = [](auto at, auto end) { return at == end ? std::string("none") : std::to_string(*at); };
    hlwq::throw_error<hlwq::format_error>("token " + std::to_string(a - ids.begin()) + " of the text as the base " +
                                          base.string() + " cuts it: expected " + show(a, ids.end()) +
                                          ", as the model does, found " + show(b, other.end()));
}

void run_kld(const kld_options& options) {
    const window_protocol protocol = protocol_of(options);
    const std::vector<token_id> ids = read_text(options, options.model.model);
    const auto windows = windows_of(ids.size(), protocol);
    const session run(options.model);

    std::optional<qwen::model> base_model;
    std::unique_ptr<logits_source> base;
    if (std::filesystem::is_directory(options.base)) {
        require_same_tokens(options, options.base, ids);
        base_model.emplace(options.base);
        base = std::make_unique<model_logits>(*base_model, run.how());
    } else {
        base = std::make_unique<saved_logits>(options.base, ids, protocol);
    }
    model_logits tested(run.model(), run.how());
    token_progress bar("kld", fed_count(windows));
    const divergence_result result = divergence(*base, tested, ids, protocol, run.how().threads, {bar.advance(), {}});
    bar.finish();
    if (options.json) {
        nlohmann::ordered_json json{{"kld_mean", result.kld.mean},
                                    {"kld_stderr", result.kld.error},
                                    {"kld_median", result.median},
                                    {"kld_p99", result.p99},
                                    {"kld_max", result.max},
                                    {"same_top1", result.same_top1.mean},
                                    {"same_top1_stderr", result.same_top1.error},
                                    {"ppl", result.tested.ppl},
                                    {"ppl_stderr", result.tested.ppl_error},
                                    {"ppl_base", result.base.ppl},
                                    {"ppl_base_stderr", result.base.ppl_error},
                                    {"log_ppl_ratio", result.log_ppl_ratio.mean},
                                    {"log_ppl_ratio_stderr", result.log_ppl_ratio.error},
                                    {"tokens", result.tested.tokens}};
        json.update(protocol_json(protocol, ids.size()));
        std::printf("%s\n", json.dump(1).c_str());
        return;
    }
    print_protocol(protocol, result.tested.tokens, ids.size());
    std::printf("KL mean      %.6f ± %.6f nats (base || model)\n", result.kld.mean, result.kld.error);
    std::printf("KL median    %.6f, 99 %% %.6f, max %.6f\n", result.median, result.p99, result.max);
    std::printf("same top 1   %.3f ± %.3f %%\n", 100.0 * result.same_top1.mean, 100.0 * result.same_top1.error);
    std::printf("perplexity   %.4f ± %.4f, of the base %.4f ± %.4f\n", result.tested.ppl, result.tested.ppl_error,
                result.base.ppl, result.base.ppl_error);
    std::printf("ln(ratio)    %.6f ± %.6f\n", result.log_ppl_ratio.mean, result.log_ppl_ratio.error);
}

}  // namespace

void add_perplexity(CLI::App& app) {
    auto* sub = app.add_subcommand("perplexity", "perplexity of a text, with its standard error");
    auto options = std::make_shared<perplexity_options>();
    add_text_options(*sub, *options);
    sub->add_option("--save-logits", options->save,
                    "write the logits as a base for kld: 4 bytes a vocabulary entry and scored token")
        ->type_name("FILE.safetensors");
    sub->callback([options] { run_perplexity(*options); });
}

void add_kld(CLI::App& app) {
    auto* sub = app.add_subcommand("kld", "Kullback-Leibler divergence of a model from its base, over a text");
    auto options = std::make_shared<kld_options>();
    sub->add_option("--base", options->base,
                    "checkpoint of the base, or what perplexity --save-logits wrote for the same text and windows")
        ->required()
        ->type_name("DIR|FILE");
    add_text_options(*sub, *options);
    sub->callback([options] { run_kld(*options); });
}

}  // namespace qwen
