// The kernels of qwen_moe_chat beside the weight products, at the shapes of the 35B-A3B, on one thread. Where memory is
// the limit, the share of the read bandwidth measured in the same run stands beside the speed: what is read counts, the
// recurrent memory counts once though it is also written.
#include "qwen_moe_chat/compute.hpp"
#include "qwen_moe_chat/kernels.hpp"
#include "qwen_moe_chat/sampler.hpp"

#include "bandwidth.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace {

using floats = qwen::line_vector<float>;

constexpr std::size_t head_dim = 256, group = 8;  // of attention
constexpr std::size_t dk = 128, dv = 128;         // of the gated delta net
constexpr std::size_t hidden = 2048, vocabulary = 248320;

floats noise(std::size_t count, float scale = 1.0f) {
    floats values(count);
    std::uint32_t word = 1;
    for (float& value : values) {
        word = word * 1664525u + 1013904223u;
        value = (static_cast<float>(word >> 8) * 0x1p-24f - 0.5f) * scale;
    }
    return values;
}

/// Read bandwidth of one thread, from memory.
double bandwidth() {
    static const double found = [] {
        const std::vector<std::byte> memory(std::size_t{512} << 20, std::byte{1});
        return bench::read_bandwidth(memory, hlwq::serial_executor{});
    }();
    return found;
}

void report_bytes(benchmark::State& state, double bytes_each) {
    const double bytes = static_cast<double>(state.iterations()) * bytes_each;
    state.counters["bytes/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsRate);
    state.counters["of_bandwidth"] = benchmark::Counter(bytes / bandwidth(), benchmark::Counter::kIsRate);
    state.SetLabel(qwen::kernels().isa);
}

/// A key head with its two value heads. Arguments: tokens, heads whose memories are used in turn.
void gated_delta_head(benchmark::State& state) {
    const auto tokens = static_cast<std::size_t>(state.range(0)), heads = static_cast<std::size_t>(state.range(1));
    constexpr std::size_t value_heads = 2, values = value_heads * dv, channels = 2 * dk + values;
    const floats u = noise(tokens * channels), conv = noise(4 * channels), z = noise(tokens * values);
    const floats a = noise(tokens * value_heads), b = noise(tokens * value_heads), small = noise(dv);
    floats tail = noise(3 * channels), memory = noise(heads * values * dk, 0.1f), out(tokens * values);
    floats scratch(qwen::kernels().delta_rule_scratch(dk, dv));
    qwen::gated_delta_head head;
    head.tokens = tokens;
    head.key_dim = dk;
    head.value_dim = dv;
    head.value_heads = head.heads = value_heads;
    head.kernel = 4;
    head.channels = channels;
    head.u_q = u.data();
    head.u_k = u.data() + dk;
    head.u_v = u.data() + 2 * dk;
    head.tail_q = tail.data();
    head.tail_k = tail.data() + dk;
    head.tail_v = tail.data() + 2 * dk;
    head.conv_q = conv.data();
    head.conv_k = conv.data() + dk;
    head.conv_v = conv.data() + 2 * dk;
    head.a = a.data();
    head.b = b.data();
    head.a_log = small.data();
    head.dt_bias = small.data();
    head.values = values;
    head.z = z.data();
    head.norm = small.data();
    head.norm_epsilon = 1e-6f;
    head.out = out.data();
    std::size_t turn = 0;
    for (auto _ : state) {
        head.state = memory.data() + turn * values * dk;
        turn = (turn + 1) % heads;
        qwen::kernels().run_gated_delta_head(head, scratch.data());
        benchmark::ClobberMemory();
    }
    if (tokens == 1) {
        report_bytes(state, static_cast<double>(values * dk * sizeof(float)));
    } else {
        state.counters["tokens/s"] = benchmark::Counter(
            static_cast<double>(state.iterations() * static_cast<std::int64_t>(tokens)), benchmark::Counter::kIsRate);
        state.SetLabel(qwen::kernels().isa);
    }
}
BENCHMARK(gated_delta_head)
    ->ArgNames({"tokens", "heads"})
    ->Args({1, 1})
    ->Args({1, 480})
    ->Args({4, 480})
    ->Args({64, 1})
    ->Args({512, 1});

/// One token's eight query heads over a context. Arguments: tokens of the context, type, contexts used in turn.
void attention_decode(benchmark::State& state) {
    const auto context = static_cast<std::size_t>(state.range(0)), type = static_cast<std::size_t>(state.range(1));
    const auto contexts = static_cast<std::size_t>(state.range(2));
    const std::size_t element = type == 0 ? 4 : 2, pages = context / qwen::kv_page_tokens;
    const std::size_t page_bytes = element * qwen::kv_head_elements(head_dim);
    const floats rows = noise(qwen::kv_page_tokens * head_dim), q = noise(2 * group * head_dim);
    qwen::line_vector<std::byte> memory(contexts * pages * page_bytes);
    for (std::size_t p = 0; p < contexts * pages; ++p) {
        qwen::kernels().append_kv[type](memory.data() + p * page_bytes, 0, rows.data(), rows.data(), head_dim,
                                        qwen::kv_page_tokens, head_dim);
    }
    floats scratch(qwen::attention_scratch_floats(head_dim)), out(group * head_dim);
    floats seen(qwen::attention_seen_floats(group, head_dim));
    const qwen::attention_tile tile{1, group, head_dim, scratch.data(), seen.data()};
    std::size_t turn = 0;
    for (auto _ : state) {
        qwen::kernels().attention_begin(tile, q.data(), 0, head_dim, 0.0625f);
        for (std::size_t p = 0; p < pages; ++p) {
            const std::byte* page = memory.data() + (turn * pages + p) * page_bytes;
            qwen::kernels().attention_page[type](tile, page, p + 1 < pages ? page + page_bytes : nullptr,
                                                 qwen::kv_page_tokens, static_cast<std::ptrdiff_t>(context));
        }
        qwen::kernels().attention_end(tile, 1, 0, q.data(), 0, head_dim, out.data(), 0);
        benchmark::ClobberMemory();
        turn = (turn + 1) % contexts;
    }
    report_bytes(state, static_cast<double>(pages * page_bytes));
}
BENCHMARK(attention_decode)
    ->ArgNames({"context", "type", "contexts"})
    ->Args({512, 1, 1})
    ->Args({8192, 1, 16})
    ->Args({8192, 2, 16})
    ->Args({8192, 0, 8});

/// Eight tokens of a prompt and their eight query heads each, over a context: products a second.
void attention_prefill(benchmark::State& state) {
    const auto context = static_cast<std::size_t>(state.range(0));
    const std::size_t pages = context / qwen::kv_page_tokens, rows = qwen::attention_rows;
    const std::size_t page_bytes = 2 * qwen::kv_head_elements(head_dim);
    const floats q = noise(rows * head_dim), from = noise(qwen::kv_page_tokens * head_dim);
    qwen::line_vector<std::byte> memory(pages * page_bytes);
    for (std::size_t p = 0; p < pages; ++p) {
        qwen::kernels().append_kv[1](memory.data() + p * page_bytes, 0, from.data(), from.data(), head_dim,
                                     qwen::kv_page_tokens, head_dim);
    }
    floats scratch(qwen::attention_scratch_floats(head_dim)), out(rows * head_dim);
    floats seen(qwen::attention_seen_floats(rows, head_dim));
    const qwen::attention_tile tile{rows / group, group, head_dim, scratch.data(), seen.data()};
    for (auto _ : state) {
        qwen::kernels().attention_begin(tile, q.data(), group * head_dim, head_dim, 0.0625f);
        for (std::size_t p = 0; p < pages; ++p) {
            qwen::kernels().attention_page[1](tile, memory.data() + p * page_bytes, nullptr, qwen::kv_page_tokens,
                                              static_cast<std::ptrdiff_t>(context));
        }
        qwen::kernels().attention_end(tile, 1, 0, q.data(), group * head_dim, head_dim, out.data(), group * head_dim);
        benchmark::ClobberMemory();
    }
    const double products =
        static_cast<double>(state.iterations()) * static_cast<double>(rows * context * 2 * head_dim);
    state.counters["mac/s"] = benchmark::Counter(products, benchmark::Counter::kIsRate);
    state.SetLabel(qwen::kernels().isa);
}
BENCHMARK(attention_prefill)->ArgName("context")->Arg(512);

void zero_centred_norm(benchmark::State& state) {
    const floats w = noise(hidden);
    floats x = noise(hidden), out(hidden);
    for (auto _ : state) {
        qwen::kernels().zero_centred_norm(x.data(), w.data(), 1e-6f, out.data(), hidden);
        benchmark::ClobberMemory();
    }
    state.SetLabel(qwen::kernels().isa);
}
BENCHMARK(zero_centred_norm);

void silu_product(benchmark::State& state) {
    const floats up = noise(hidden), start = noise(hidden, 8.0f);
    floats gate = start;
    for (auto _ : state) {
        qwen::kernels().silu_product(gate.data(), up.data(), hidden);
        benchmark::ClobberMemory();
    }
    state.SetLabel(qwen::kernels().isa);
}
BENCHMARK(silu_product);

void next_above_all(benchmark::State& state) {
    const floats x = noise(vocabulary);
    for (auto _ : state) benchmark::DoNotOptimize(qwen::kernels().next_above(x.data(), 0, vocabulary, 2.0f));
    state.SetLabel(qwen::kernels().isa);
}
BENCHMARK(next_above_all);

void exponentials(benchmark::State& state) {
    const floats start = noise(vocabulary, 20.0f);
    floats x = start;
    for (auto _ : state) {
        x = start;
        qwen::kernels().exponentials(x.data(), vocabulary);
        benchmark::ClobberMemory();
    }
    state.SetLabel(qwen::kernels().isa);
}
BENCHMARK(exponentials);

/// The next token from logits of the whole vocabulary. Arguments: top_k (0: all), temperature in tenths (0: greedy).
void sample(benchmark::State& state) {
    const floats logits = noise(vocabulary, 20.0f);
    const qwen::sampling_options options{.temperature = 0.1 * static_cast<double>(state.range(1)),
                                         .top_k = static_cast<std::size_t>(state.range(0)),
                                         .top_p = 0.95};
    qwen::sampler choose(options, vocabulary, {}, 1);
    for (auto _ : state) benchmark::DoNotOptimize(choose.sample(logits));
    state.SetLabel(qwen::kernels().isa);
}
BENCHMARK(sample)->ArgNames({"top_k", "temperature"})->Args({1, 0})->Args({20, 10})->Args({0, 10});

}  // namespace
