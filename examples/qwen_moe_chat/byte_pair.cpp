#include "qwen_moe_chat/byte_pair.hpp"

#include "hlwq/error.hpp"

#include <algorithm>
#include <bit>
#include <functional>

namespace qwen {

namespace {

constexpr std::uint64_t no_pair = ~std::uint64_t{0};
constexpr std::size_t longest_probe = 2000;  // as in vocabulary.cpp
// Up to here it is cheaper to look at all pairs again after every merge than to keep a heap.
constexpr std::size_t longest_short = 48;

std::uint64_t pair_of(token_id left, token_id right) noexcept { return std::uint64_t{left} << 32 | right; }

}  // namespace

void byte_pair_merges::reset(std::size_t count, const std::array<token_id, 256>& byte_ids) {
    byte_ids_ = byte_ids;
    slots_.assign(std::bit_ceil(2 * count + 1), {no_pair, none});
    results_.clear();
    results_.reserve(count);
}

std::size_t byte_pair_merges::start(token_id left, token_id right) const noexcept {
    const std::uint64_t hash = pair_of(left, right) * 0x9e3779b97f4a7c15ull;
    return static_cast<std::size_t>(hash ^ (hash >> 32)) & (slots_.size() - 1);
}

void byte_pair_merges::insert(token_id left, token_id right, token_id result) {
    const std::size_t mask = slots_.size() - 1;
    const std::uint64_t pair = pair_of(left, right);
    std::size_t at = start(left, right), probes = 0;
    for (; slots_[at].pair != no_pair && slots_[at].pair != pair; at = (at + 1) & mask) {
        HLWQ_EXPECTS(++probes < longest_probe, hlwq::format_error, "merges", "pairs like those of a language",
                     "pairs made to collide");
    }
    if (slots_[at].pair == no_pair) slots_[at] = {pair, static_cast<rank>(results_.size())};
    results_.push_back(result);
}

byte_pair_merges::rank byte_pair_merges::find(token_id left, token_id right) const noexcept {
    const std::size_t mask = slots_.size() - 1;
    const std::uint64_t pair = pair_of(left, right);
    std::size_t at = start(left, right);
    while (slots_[at].pair != pair && slots_[at].pair != no_pair) at = (at + 1) & mask;
    return slots_[at].at;
}

void byte_pair_merges::encode(std::string_view split, std::vector<token_id>& out) const {
    if (split.size() <= longest_short) {
        encode_short(split, out);
    } else {
        encode_long(split, out);
    }
}

void byte_pair_merges::encode_short(std::string_view split, std::vector<token_id>& out) const {
    token_id symbols[longest_short];
    rank next[longest_short];  // of symbol i with its right neighbour
    std::size_t count = split.size();
    for (std::size_t i = 0; i < count; ++i) symbols[i] = byte_ids_[static_cast<unsigned char>(split[i])];
    const auto look_up = [&](std::size_t i) { return i + 1 < count ? find(symbols[i], symbols[i + 1]) : none; };
    for (std::size_t i = 0; i < count; ++i) next[i] = look_up(i);
    while (count > 1) {
        const auto best = static_cast<std::size_t>(std::min_element(next, next + count) - next);
        if (next[best] == none) break;
        symbols[best] = results_[next[best]];
        --count;
        std::copy(symbols + best + 2, symbols + count + 1, symbols + best + 1);
        std::copy(next + best + 2, next + count + 1, next + best + 1);
        next[best] = look_up(best);
        if (best > 0) next[best - 1] = look_up(best - 1);
    }
    out.insert(out.end(), symbols, symbols + count);
}

/// A linked list of symbols, and a heap of their pairs by rank and place. A pair in the heap counts only while its
/// place still has this rank.
void byte_pair_merges::encode_long(std::string_view split, std::vector<token_id>& out) const {
    HLWQ_EXPECTS(split.size() < none, hlwq::format_error, "text to encode", "a break within 4 GiB", split.size());
    struct symbol {
        token_id id;
        std::uint32_t previous, next;  // `none` beyond the ends
        rank merge;                    // with the next one
    };
    const auto size = static_cast<std::uint32_t>(split.size());
    std::vector<symbol> symbols(size);
    std::vector<std::uint64_t> heap;  // rank, place
    heap.reserve(size);
    for (std::uint32_t i = 0; i < size; ++i) {
        const auto byte = [&](std::uint32_t k) { return byte_ids_[static_cast<unsigned char>(split[k])]; };
        const bool last = i + 1 == size;
        symbols[i] = {byte(i), i == 0 ? none : i - 1, last ? none : i + 1, last ? none : find(byte(i), byte(i + 1))};
        if (symbols[i].merge != none) heap.push_back(pair_of(symbols[i].merge, i));
    }
    std::ranges::make_heap(heap, std::greater());
    const auto look_up = [&](std::uint32_t at) {
        symbol& s = symbols[at];
        s.merge = s.next == none ? none : find(s.id, symbols[s.next].id);
        if (s.merge == none) return;
        heap.push_back(pair_of(s.merge, at));
        std::ranges::push_heap(heap, std::greater());
    };
    while (!heap.empty()) {
        std::ranges::pop_heap(heap, std::greater());
        const auto lowest = static_cast<rank>(heap.back() >> 32);
        const auto at = static_cast<std::uint32_t>(heap.back());
        heap.pop_back();
        symbol& left = symbols[at];
        if (left.merge != lowest) continue;
        symbol& right = symbols[left.next];
        left.id = results_[lowest];
        left.next = right.next;
        right.merge = none;
        if (left.next != none) symbols[left.next].previous = at;
        if (left.previous != none) look_up(left.previous);
        look_up(at);
    }
    for (std::uint32_t at = 0; at != none; at = symbols[at].next) out.push_back(symbols[at].id);
}

}  // namespace qwen
