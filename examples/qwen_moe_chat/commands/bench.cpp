// bench -p N -n N -d DEPTH[,DEPTH]: prompt and generation speed, measured as llama-bench does
//
//   pp   N tokens in calls of --chunk tokens, logits of the last one
//   tg   N tokens one by one, logits of each
//
// Both begin behind DEPTH tokens, which are not timed. Tokens are random from a fixed seed. A run of each kind comes
// before what is timed, so that memory is allocated and mapped.
//
// --sequences S: the same for S sequences with tokens of their own in the same calls, --chunk tokens of each or one of
// each; the speed counts the tokens of all. The first sequence alone takes turns with them: S prompts one behind the
// other run at its speed.
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
    std::size_t prompt = 512, generate = 128, chunk = 512, repetitions = 5, sequences = 1;
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
    std::size_t sequences, tokens, depth;  // tokens and depth of each sequence
    std::vector<double> speeds;            // tokens/s of all sequences together, ascending

    double median() const {
        const std::size_t middle = speeds.size() / 2;
        return speeds.size() % 2 != 0 ? speeds[middle] : 0.5 * (speeds[middle - 1] + speeds[middle]);
    }
    std::string name() const {
        std::string text = sequences == 1 ? "" : std::to_string(sequences) + " x ";
        text += kind + std::to_string(tokens);
        if (depth != 0) text += " @ d" + std::to_string(depth);
        return text;
    }
};

/// Sequences of random tokens, all of the same length at any time.
class bench_run {
  public:
    using snapshots = std::vector<sequence_snapshot>;

    bench_run(const session& run, const bench_options& options)
        : run_(run), options_(options), space_(run.model().config()), ids_(options.sequences) {
        std::size_t longest = std::max({options.prompt, options.generate, std::size_t{1}});
        longest += *std::max_element(options.depths.begin(), options.depths.end());
        std::mt19937 random(options.seed);
        for (std::vector<token_id>& ids : ids_) {
            states_.emplace_back(run.model().config(), kv_type_for(run.how().mode));
            while (ids.size() < longest) {
                ids.push_back(static_cast<token_id>(random() % run.model().config().vocabulary));
            }
        }
    }

    /// The next `count` tokens of the first `sequences` in calls of at most `step` of each; logits of the last ones of
    /// each call where `every`, else of the last of all.
    void feed(std::size_t sequences, std::size_t count, std::size_t step, bool every) {
        for (std::size_t left = count; left != 0;) {
            const std::size_t now = std::min(left, step);
            inputs_.clear();
            for (std::size_t i = 0; i < sequences; ++i) {
                inputs_.push_back({std::span(ids_[i]).subspan(states_[i].tokens(), now), &states_[i], {}});
            }
            const auto h = run_.model().forward(inputs_, space_, run_.how());
            left -= now;
            if (!every && left != 0) continue;
            const auto last = last_.shape(sequences, h.cols);
            for (std::size_t i = 0; i < sequences; ++i) {
                std::ranges::copy(h.row((i + 1) * now - 1), last.row(i).begin());
            }
            const auto out = logits_.shape(sequences, run_.model().config().vocabulary);
            run_.model().logits(last, out, space_, run_.how());
        }
    }
    void prompt(std::size_t sequences, std::size_t tokens) { feed(sequences, tokens, options_.chunk, false); }
    void generate(std::size_t sequences, std::size_t tokens) { feed(sequences, tokens, 1, true); }

    /// Times `work(sequences, tokens)` from the states as they are now, which stay: for one sequence, and in turn with
    /// it for all if there are more.
    template <class F>
    void measure(const char* kind, std::size_t tokens, F&& work, std::vector<measurement>& results) {
        std::vector<measurement> turns{{kind, 1, tokens, states_[0].tokens(), {}}};
        if (states_.size() > 1) turns.push_back({kind, states_.size(), tokens, states_[0].tokens(), {}});
        const snapshots before = snapshot();
        const auto begin = clock::now();
        while (turns[0].speeds.size() < options_.repetitions) {
            for (measurement& m : turns) {
                const auto start = clock::now();
                work(m.sequences, tokens);
                m.speeds.push_back(static_cast<double>(m.sequences * tokens) / seconds_since(start));
                restore(before);
            }
            if (seconds_since(begin) > options_.seconds) break;
        }
        for (measurement& m : turns) {
            std::sort(m.speeds.begin(), m.speeds.end());
            std::fprintf(stderr, "bench: %s: %.2f tokens/s (%zu runs)\n", m.name().c_str(), m.median(),
                         m.speeds.size());
            results.push_back(std::move(m));
        }
    }

    snapshots snapshot() const {
        snapshots all;
        for (const sequence_state& state : states_) all.push_back(state.snapshot());
        return all;
    }
    void restore(const snapshots& all) {
        for (std::size_t i = 0; i < all.size(); ++i) states_[i].restore(all[i]);
    }

  private:
    const session& run_;
    const bench_options& options_;
    workspace space_;
    std::vector<std::vector<token_id>> ids_;
    std::vector<sequence_state> states_;
    std::vector<sequence_input> inputs_;
    activations last_, logits_;
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
    const auto prompt = [&](std::size_t sequences, std::size_t tokens) { bench.prompt(sequences, tokens); };
    const auto generate = [&](std::size_t sequences, std::size_t tokens) { bench.generate(sequences, tokens); };
    const bench_run::snapshots empty = bench.snapshot();
    prompt(options.sequences, std::min(std::max(options.prompt, options.generate), options.chunk));
    bench.restore(empty);
    generate(options.sequences, 1);
    for (const std::size_t depth : options.depths) {
        bench.restore(empty);
        prompt(options.sequences, depth);
        if (options.prompt != 0) bench.measure("pp", options.prompt, prompt, results);
        if (options.generate != 0) bench.measure("tg", options.generate, generate, results);
    }
    return results;
}

void print_json(const session& run, const bench_options& options, const std::vector<measurement>& results, double load,
                double first_token, std::size_t longest) {
    nlohmann::ordered_json json{{"pp_tok_s", nullptr}, {"tg_tok_s", nullptr}, {"runs", nlohmann::json::array()}};
    for (const measurement& m : results) {
        if (m.depth == options.depths.front() && m.sequences == options.sequences) {
            json[std::string(m.kind) + "_tok_s"] = m.median();
        }
        json["runs"].push_back({{"kind", m.kind},
                                {"sequences", m.sequences},
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
    json["state_bytes"] = options.sequences * state_bytes(run.model().config(), kv_type_for(run.how().mode), longest);
    std::printf("%s\n", json.dump(1).c_str());
}

void print_table(const session& run, const std::vector<measurement>& results, double load, double first_token) {
    const auto size = [](std::uint64_t bytes) { return console::size_text(static_cast<double>(bytes)); };
    std::printf("%-20s %12s %10s %10s\n", "tokens/s", "median", "min", "max");
    double one = 0.0;  // the median of one sequence, which stands before that of all
    for (const measurement& m : results) {
        std::printf("%-20s %12.2f %10.2f %10.2f", m.name().c_str(), m.median(), m.speeds.front(), m.speeds.back());
        if (m.sequences == 1) one = m.median();
        if (m.sequences != 1) std::printf("   %.2f times one", m.median() / one);
        std::printf("\n");
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
    const bench_run::snapshots empty = bench.snapshot();
    bench.generate(1, 1);
    const double first_token = seconds_since(start);
    bench.restore(empty);
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
    sub->add_option("--chunk", options->chunk, "tokens of a prompt's call, of each sequence")
        ->check(CLI::Range(std::size_t{1}, most))
        ->capture_default_str()
        ->type_name("N");
    sub->add_option("--sequences", options->sequences, "sequences in the same calls; 2 or more: beside one alone")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str()
        ->type_name("S");
    sub->add_option("--seed", options->seed, "of the random tokens")->capture_default_str()->type_name("N");
    options->model.fast_prefill = true;
    add_options(*sub, options->model);
    sub->add_flag("--json", options->json, "the result as one JSON object on stdout");
    sub->callback([options] { run_bench(*options); });
}

}  // namespace qwen
