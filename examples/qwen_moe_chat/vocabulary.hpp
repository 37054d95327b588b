// Texts to ids: the hash table of a tokenizer
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qwen {

/// A hash of a text in which every byte counts.
std::uint64_t text_hash(std::string_view text) noexcept;

/// Texts to ids by open addressing over one string of all texts, because a quarter of a million entries are read at
/// every start of a program.
class vocabulary {
  public:
    /// Adds a text; of several equal ones the first counts. Returns whether it is new. Throws hlwq::format_error for
    /// texts that are made to collide and for more than 4 GiB of them.
    /// promises: id is below 2^32 - 1
    bool insert(std::string_view text, std::uint32_t id);
    /// The id of a text, null if there is none; also for a text whose hash is known.
    const std::uint32_t* find(std::string_view text) const noexcept { return find(text, text_hash(text)); }
    const std::uint32_t* find(std::string_view text, std::uint64_t hash) const noexcept;
    /// Makes room for `count` texts in all.
    void reserve(std::size_t count);
    std::size_t size() const noexcept { return size_; }

    /// Calls f(text, id) for every entry; the order means nothing.
    template <class F>
    void for_each(F&& f) const {
        for (const slot& s : slots_) {
            if (s.id != empty) f(text_of(s), s.id);
        }
    }

  private:
    static constexpr std::uint32_t empty = ~std::uint32_t{0};
    struct slot {
        std::uint32_t hash = 0;
        std::uint32_t begin = 0, length = 0;
        std::uint32_t id = empty;
    };
    std::string_view text_of(const slot& s) const noexcept { return {texts_.data() + s.begin, s.length}; }

    std::string texts_;
    std::vector<slot> slots_;
    std::size_t size_ = 0;
};

}  // namespace qwen
