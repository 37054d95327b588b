// bench -p N -n N -d DEPTH[,DEPTH]: prompt and generation speed, measured as llama-bench does
//
//   pp   N tokens in calls of --chunk tokens, logits of the last one
//   tg   N tokens one by one, logits of each
//
// Both begin behind DEPTH tokens, which are not timed. Tokens are random from a fixed seed. A run of each kind comes
// before what is timed, so that memory is allocated and mapped.
#include "qwen_moe_chat/commands/command.hpp"

#include "console/process.hpp"
#include "console/terminal.hpp"

#include "hlwq/dispatch/dispatch.hpp"
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace qwen {

namespace {

struct bench_options {
    model_options model;
    std::size_t prompt = 512, generate = 128, chunk = 512, repetitions = 5;
    std::vector<std::size_t> depths = {0};
    double seconds = 60.0;
    std::uint32_t seed = 1;
    bool json = false;
};

using clock = std::chrono::steady_clock;

double seconds_since(clock::time_point start) { return std::chrono::duration<double>(clock::now() - start).count(); }

/// Repetitions of one measurement.
struct measurement {
    const char* kind;
    std::size_t tokens, depth;
    std::vector<double> speeds;  // tokens/s, ascending

    double median() const {
        const std::size_t middle = speeds.size() / 2;
        return speeds.size() % 2 != 0 ? speeds[middle] : 0.5 * (speeds[middle - 1] + speeds[middle]);
    }
    std::string name() const {
        return kind + std::to_string(tokens) + (depth == 0 ? "" : " @ d" + std::to_string(depth));
    }
};

/// One sequence of random tokens.
class bench_run {
  public:
    bench_run(const session& run, const bench_options& options)
        : run_(run),
          options_(options),
          space_(run.model().config()),
          state_(run.model().config(), kv_type_for(run.how().mode)) {
        std::size_t longest = std::max({options.prompt, options.generate, std::size_t{1}});
        longest += *std::max_element(options.depths.begin(), options.depths.end());
        std::mt19937 random(options.seed);
        for (std::size_t i = 0; i < longest; ++i) {
            ids_.push_back(static_cast<token_id>(random() % run.model().config().vocabulary));
        }
    }

    /// The next `count` tokens in calls of at most `step`; logits of the last of each call where `every`, else of the
    /// last of all.
    void feed(std::size_t count, std::size_t step, bool every) {
        for (std::size_t left = count; left != 0;) {
            const std::size_t now = std::min(left, step);
            const sequence_input input{std::span(ids_).subspan(state_.tokens(), now), &state_, {}};
            const auto h = run_.model().forward({&input, 1}, space_, run_.how());
            left -= now;
            if (every || left == 0) {
                const auto out = logits_.shape(1, run_.model().config().vocabulary);
                run_.model().logits(h.rows_between(h.rows - 1, h.rows), out, space_, run_.how());
            }
        }
    }
    void prompt(std::size_t tokens) { feed(tokens, options_.chunk, false); }
    void generate(std::size_t tokens) { feed(tokens, 1, true); }

    /// Times `work` from the state as it is now, which stays.
    template <class F>
    measurement measure(const char* kind, std::size_t tokens, F&& work) {
        measurement result{kind, tokens, state_.tokens(), {}};
        const sequence_snapshot before = state_.snapshot();
        const auto begin = clock::now();
        while (result.speeds.size() < options_.repetitions) {
            const auto start = clock::now();
            work(tokens);
            result.speeds.push_back(static_cast<double>(tokens) / seconds_since(start));
            state_.restore(before);
            if (seconds_since(begin) > options_.seconds) break;
        }
        std::sort(result.speeds.begin(), result.speeds.end());
        std::fprintf(stderr, "bench: %s: %.2f tokens/s (%zu runs)\n", result.name().c_str(), result.median(),
                     result.speeds.size());
        return result;
    }

    sequence_state& state() noexcept { return state_; }

  private:
    const session& run_;
    const bench_options& options_;
    workspace space_;
    sequence_state state_;
    activations logits_;
    std::vector<token_id> ids_;
};

std::uint64_t file_bytes(const model& m) {
    std::uint64_t bytes = 0;
    for (const auto& file : m.file().files()) bytes += file.file().bytes().size();
    return bytes;
}

/// What a sequence of that many tokens remembers, in bytes.
std::uint64_t state_bytes(const model_config& config, kv_type keys, std::size_t tokens) {
    const auto& gdn = config.gdn;
    const std::uint64_t element = keys == kv_type::f32 ? sizeof(float) : sizeof(std::uint16_t);
    std::uint64_t bytes = 0;
    for (const mixer_kind kind : config.mixers) {
        bytes +=
            kind == mixer_kind::attention
                ? 2 * tokens * config.attention.kv_width() * element
                : ((gdn.kernel - 1) * gdn.channels() + gdn.value_heads * gdn.key_dim * gdn.value_dim) * sizeof(float);
    }
    return bytes;
}

std::vector<measurement> measure_all(bench_run& bench, const bench_options& options) {
    std::vector<measurement> results;
    const sequence_snapshot empty = bench.state().snapshot();
    bench.prompt(std::min(std::max(options.prompt, options.generate), options.chunk));
    bench.state().restore(empty);
    bench.generate(1);
    for (const std::size_t depth : options.depths) {
        bench.state().restore(empty);
        bench.prompt(depth);
        if (options.prompt != 0) {
            results.push_back(bench.measure("pp", options.prompt, [&](std::size_t n) { bench.prompt(n); }));
        }
        if (options.generate != 0) {
            results.push_back(bench.measure("tg", options.generate, [&](std::size_t n) { bench.generate(n); }));
        }
    }
    return results;
}

void print_json(const session& run, const bench_options& options, const std::vector<measurement>& results, double load,
                double first_token, std::size_t longest) {
    nlohmann::ordered_json json{{"pp_tok_s", nullptr}, {"tg_tok_s", nullptr}, {"runs", nlohmann::json::array()}};
    for (const measurement& m : results) {
        if (m.depth == options.depths.front()) json[std::string(m.kind) + "_tok_s"] = m.median();
        json["runs"].push_back({{"kind", m.kind},
                                {"tokens", m.tokens},
                                {"depth", m.depth},
                                {"median", m.median()},
                                {"min", m.speeds.front()},
                                {"max", m.speeds.back()},
                                {"repetitions", m.speeds.size()}});
    }
    json["threads"] = run.how().threads.concurrency();
    json["isa"] = hlwq::dispatch::isa();
    json["mode"] = run.how().fast_prefill ? "precise, prompts fast" : hlwq::to_string(run.how().mode);
    json["load_s"] = load;
    json["first_token_s"] = first_token;
    json["peak_rss"] = console::peak_resident_set();
    json["file_bytes"] = file_bytes(run.model());
    json["state_bytes"] = state_bytes(run.model().config(), kv_type_for(run.how().mode), longest);
    std::printf("%s\n", json.dump(1).c_str());
}

void print_table(const session& run, const std::vector<measurement>& results, double load, double first_token) {
    const auto size = [](std::uint64_t bytes) { return console::size_text(static_cast<double>(bytes)); };
    std::printf("%-20s %12s %10s %10s\n", "tokens/s", "median", "min", "max");
    for (const measurement& m : results) {
        std::printf("%-20s %12.2f %10.2f %10.2f\n", m.name().c_str(), m.median(), m.speeds.front(), m.speeds.back());
    }
    std::printf("\n%u threads, %s; load %.2f s, first token after %.2f s; checkpoint %s, peak memory %s\n",
                run.how().threads.concurrency(), std::string(hlwq::dispatch::isa()).c_str(), load, first_token,
                size(file_bytes(run.model())).c_str(), size(console::peak_resident_set()).c_str());
}

void run_bench(const bench_options& options) {
    if (options.prompt == 0 && options.generate == 0) {
        throw usage_error("-p, -n: expected a number of tokens for one of them at least, found 0 for both");
    }
    const auto start = clock::now();
    const session run(options.model);
    const double load = seconds_since(start);
    const std::size_t longest =
        *std::max_element(options.depths.begin(), options.depths.end()) + std::max(options.prompt, options.generate);
    HLWQ_EXPECTS(longest <= run.model().config().max_positions, hlwq::value_error, "depth and tokens",
                 "at most " + std::to_string(run.model().config().max_positions) + ", the context of the model",
                 longest);
    bench_run bench(run, options);
    const sequence_snapshot empty = bench.state().snapshot();
    bench.generate(1);
    const double first_token = seconds_since(start);
    bench.state().restore(empty);
    const std::vector<measurement> results = measure_all(bench, options);
    if (options.json) {
        print_json(run, options, results, load, first_token, longest);
    } else {
        print_table(run, results, load, first_token);
    }
}

}  // namespace

void add_bench(CLI::App& app) {
    auto* sub = app.add_subcommand("bench", "prompt and generation speed, tokens/s");
    auto options = std::make_shared<bench_options>();
    constexpr std::size_t most = std::size_t{1} << 24;
    sub->add_option("-p", options->prompt, "tokens of the prompt; 0: none")
        ->check(CLI::Range(std::size_t{0}, most))
        ->capture_default_str()
        ->type_name("N");
    sub->add_option("-n", options->generate, "tokens to generate; 0: none")
        ->check(CLI::Range(std::size_t{0}, most))
        ->capture_default_str()
        ->type_name("N");
    sub->add_option("-d", options->depths, "tokens that stand before those that are timed (default: 0)")
        ->delimiter(',')
        ->check(CLI::Range(std::size_t{0}, most))
        ->type_name("DEPTH[,DEPTH]");
    sub->add_option("-r", options->repetitions, "repetitions of each measurement")
        ->check(CLI::Range(1, 10000))
        ->capture_default_str()
        ->type_name("N");
    sub->add_option("--time", options->seconds, "no further repetition when one measurement has taken so long")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str()
        ->type_name("SECONDS");
    sub->add_option("--chunk", options->chunk, "tokens of a prompt's call")
        ->check(CLI::Range(std::size_t{1}, most))
        ->capture_default_str()
        ->type_name("N");
    sub->add_option("--seed", options->seed, "of the random tokens")->capture_default_str()->type_name("N");
    options->model.fast_prefill = true;
    add_options(*sub, options->model);
    sub->add_flag("--json", options->json, "the result as one JSON object on stdout");
    sub->callback([options] { run_bench(*options); });
}

}  // namespace qwen
