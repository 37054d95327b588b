#include "qwen_moe_chat/vocabulary.hpp"

#include "hlwq/error.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace qwen {

namespace {

// At most half of the slots are used; a chance run of this length does not occur.
constexpr std::size_t longest_probe = 2000;

}  // namespace

std::uint64_t text_hash(std::string_view text) noexcept {
    constexpr std::uint64_t factor = 0xbf58476d1ce4e5b9ull;
    std::uint64_t hash = text.size() * 0x9e3779b97f4a7c15ull;
    for (std::size_t i = 0; i < text.size(); i += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, text.data() + i, std::min<std::size_t>(8, text.size() - i));
        hash = (std::rotl(hash, 23) ^ word) * factor;
    }
    return (hash ^ (hash >> 32)) * factor;
}

const std::uint32_t* vocabulary::find(std::string_view text, std::uint64_t hash) const noexcept {
    if (slots_.empty()) return nullptr;
    const std::size_t mask = slots_.size() - 1;
    const auto mark = static_cast<std::uint32_t>(hash >> 32);
    for (std::size_t at = mark & mask; slots_[at].id != empty; at = (at + 1) & mask) {
        if (slots_[at].hash == mark && text_of(slots_[at]) == text) return &slots_[at].id;
    }
    return nullptr;
}

bool vocabulary::insert(std::string_view text, std::uint32_t id) {
    if (2 * (size_ + 1) > slots_.size()) reserve(std::max<std::size_t>(64, 2 * size_));
    const std::size_t mask = slots_.size() - 1;
    const auto mark = static_cast<std::uint32_t>(text_hash(text) >> 32);
    std::size_t at = mark & mask, probes = 0;
    for (; slots_[at].id != empty; at = (at + 1) & mask) {
        if (slots_[at].hash == mark && text_of(slots_[at]) == text) return false;
        HLWQ_EXPECTS(++probes < longest_probe, hlwq::format_error, "vocabulary", "entries like those of a language",
                     "entries made to collide");
    }
    HLWQ_EXPECTS(texts_.size() + text.size() < empty, hlwq::format_error, "vocabulary", "at most 4 GiB of entries",
                 "more");
    slots_[at] = {mark, static_cast<std::uint32_t>(texts_.size()), static_cast<std::uint32_t>(text.size()), id};
    texts_ += text;
    ++size_;
    return true;
}

void vocabulary::reserve(std::size_t count) {
    const std::size_t wanted = std::bit_ceil(2 * count);
    if (wanted <= slots_.size()) return;
    std::vector<slot> old(wanted);
    old.swap(slots_);
    const std::size_t mask = wanted - 1;
    for (const slot& s : old) {
        if (s.id == empty) continue;
        std::size_t at = s.hash & mask;
        while (slots_[at].id != empty) at = (at + 1) & mask;
        slots_[at] = s;
    }
}

}  // namespace qwen
