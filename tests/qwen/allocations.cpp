// A program of its own, since it replaces operator new: decoding allocates nothing but pages of keys and values.
#include "golden.hpp"
#include "memory_checkpoint.hpp"

#include "qwen_moe_chat/sampler.hpp"

#include "hlwq/thread_pool.hpp"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace {

std::atomic<std::size_t> allocations{0};

void* allocate(std::size_t size, std::size_t alignment) noexcept {
    allocations.fetch_add(1, std::memory_order_relaxed);
    const std::size_t whole = (size + alignment - 1) / alignment * alignment;
    return std::aligned_alloc(alignment, whole == 0 ? alignment : whole);
}

void* allocate_or_throw(std::size_t size, std::size_t alignment) {
    void* p = allocate(size, alignment);
    if (p == nullptr) throw std::bad_alloc();
    return p;
}

// Not inlined: g++ would hold against operator delete that it gives to free what operator new has made.
__attribute__((noinline)) void release(void* p) noexcept { std::free(p); }

constexpr std::size_t usual = alignof(std::max_align_t);

}  // namespace

// NOLINTBEGIN: the names are the standard's
void* operator new(std::size_t size) { return allocate_or_throw(size, usual); }
void* operator new[](std::size_t size) { return allocate_or_throw(size, usual); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size, usual); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return allocate(size, usual); }
void* operator new(std::size_t size, std::align_val_t at) { return allocate_or_throw(size, std::size_t(at)); }
void* operator new[](std::size_t size, std::align_val_t at) { return allocate_or_throw(size, std::size_t(at)); }
void* operator new(std::size_t size, std::align_val_t at, const std::nothrow_t&) noexcept {
    return allocate(size, std::size_t(at));
}
void* operator new[](std::size_t size, std::align_val_t at, const std::nothrow_t&) noexcept {
    return allocate(size, std::size_t(at));
}
void operator delete(void* p) noexcept { release(p); }
void operator delete[](void* p) noexcept { release(p); }
void operator delete(void* p, std::size_t) noexcept { release(p); }
void operator delete[](void* p, std::size_t) noexcept { release(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { release(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { release(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { release(p); }
// NOLINTEND

namespace {

const std::filesystem::path folder = golden::data_folder() / "../../examples/qwen_moe_chat/tiny/model";

/// The embedded model in BF16, at 5 bits, and at 5 bits with a head of 8.
const qwen::model& bf16() {
    static const qwen::model model(folder);
    return model;
}
const qwen::model& packed(int head_bits) {
    static const memory::checkpoint source = memory::checkpoint::read(folder);
    static const memory::opened narrow(memory::quantized(source, 5).first);
    static const memory::opened wide(memory::with_head(source, 5, 8, 8));
    return head_bits == 5 ? narrow.model() : wide.model();
}

/// Pages and their bookkeeping that the tokens up to `tokens` need in all attention layers.
std::size_t pages(const qwen::sequence_state& state, const qwen::model& model) {
    std::size_t count = 0;
    for (const qwen::mixer_kind kind : model.config().mixers) {
        if (kind == qwen::mixer_kind::attention)
            count += (state.tokens() + qwen::kv_page_tokens - 1) / qwen::kv_page_tokens;
    }
    return count;
}

/// Decodes tokens of some sequences in the same calls and samples the next ones.
class decoder {
  public:
    decoder(const qwen::model& model, hlwq::executor_ref threads, hlwq::precision mode, std::size_t sequences,
            const qwen::sampling_options& sampling)
        : model_(model), how_{threads, mode}, space_(model.config()), next_(sequences) {
        for (std::size_t i = 0; i < sequences; ++i) {
            states_.emplace_back(model.config(), qwen::kv_type_for(mode));
            samplers_.emplace_back(sampling, model.config().vocabulary, std::span<const qwen::token_id>(), i);
            next_[i] = static_cast<qwen::token_id>(11 * i + 5);
        }
        for (std::size_t i = 0; i < sequences; ++i)
            inputs_.push_back({std::span(next_).subspan(i, 1), &states_[i], {}});
    }

    void step() {
        const auto h = model_.forward(inputs_, space_, how_);
        const auto out = logits_.shape(h.rows, model_.config().vocabulary);
        model_.logits(h, out, space_, how_);
        for (std::size_t i = 0; i < next_.size(); ++i) {
            next_[i] = samplers_[i].sample(out.row(i));
            samplers_[i].accept(next_[i]);
        }
    }
    std::size_t pages() const {
        std::size_t count = 0;
        for (const qwen::sequence_state& state : states_) count += ::pages(state, model_);
        return count;
    }

  private:
    const qwen::model& model_;
    qwen::compute how_;
    qwen::workspace space_;
    std::vector<qwen::sequence_state> states_;
    std::vector<qwen::sampler> samplers_;
    std::vector<qwen::token_id> next_;
    std::vector<qwen::sequence_input> inputs_;
    qwen::activations logits_;
};

/// Decodes across the ends of two pages: a token that begins none allocates nothing.
void check_decoding(const qwen::model& model, hlwq::executor_ref threads, hlwq::precision mode,
                    std::size_t sequences = 1, const qwen::sampling_options& sampling = {.temperature = 0.0}) {
    decoder run(model, threads, mode, sequences, sampling);
    for (int i = 0; i < 4; ++i) run.step();
    std::size_t allocated = 0, paged = 0, others = 0;
    for (std::size_t i = 0; i < 2 * qwen::kv_page_tokens; ++i) {
        const std::size_t before = allocations, pages_before = run.pages();
        run.step();
        const std::size_t count = allocations - before, added = run.pages() - pages_before;
        allocated += count;
        paged += added;
        if (added == 0) others += count;
    }
    CHECK(others == 0);
    // A page is its memory and its owner. Pages of 64 are listed before the list grows.
    CHECK(paged != 0);
    CHECK(allocated == 2 * paged);
}

}  // namespace

TEST_CASE("allocations are counted") {
    const std::size_t before = allocations;
    const std::vector<float> few(100);
    const qwen::line_vector<float> line(100);
    CHECK(few.size() == line.size());
    CHECK(allocations == before + 2);
}

TEST_CASE("a token allocates nothing: BF16, 5 bits, 8 bits for the head, on one thread and on two") {
    hlwq::serial_executor serial;
    hlwq::thread_pool pool(2);
    const hlwq::executor_ref executors[] = {serial, pool};
    for (const hlwq::executor_ref threads : executors) {
        CAPTURE(threads.concurrency());
        check_decoding(bf16(), threads, hlwq::precision::exact);
        for (const int head_bits : {5, 8}) {
            CAPTURE(head_bits);
            for (const auto mode : {hlwq::precision::exact, hlwq::precision::fast, hlwq::precision::precise}) {
                CAPTURE(std::string(hlwq::to_string(mode)));
                check_decoding(packed(head_bits), threads, mode);
            }
        }
    }
}

TEST_CASE("nor does a token of each of four sequences") {
    hlwq::thread_pool pool(2);
    check_decoding(bf16(), pool, hlwq::precision::exact, 4);
    check_decoding(packed(5), pool, hlwq::precision::precise, 4);
    check_decoding(packed(5), pool, hlwq::precision::fast, 4);
}

TEST_CASE("nor does sampling") {
    hlwq::serial_executor serial;
    const qwen::sampling_options settings[] = {
        {.temperature = 1.0},
        {.temperature = 0.7, .top_k = 20, .top_p = 0.8},
        {.temperature = 0.7, .top_p = 0.9, .min_p = 0.05, .presence_penalty = 1.0, .repetition_penalty = 1.1},
        {.temperature = 0.0, .frequency_penalty = 0.5, .logit_bias = {{7, 1.0}, {9, -2.0}}}};
    for (const qwen::sampling_options& sampling : settings) {
        CAPTURE(sampling.temperature);
        check_decoding(packed(5), serial, hlwq::precision::precise, 1, sampling);
    }
}
