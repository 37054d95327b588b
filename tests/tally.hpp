// tests/tally.hpp — comparisons by the million: one CHECK for all, with the first failure named
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>

/// Counts comparisons and keeps the first failure, because a CHECK per lane would take minutes.
struct tally {
    std::size_t compared = 0;
    std::size_t wrong = 0;
    std::string first = "no failure";

    template <class T>
    void same(const T* found, const T* expected, std::size_t count, const std::string& what = {}) {
        for (std::size_t i = 0; i < count; ++i) {
            ++compared;
            if (std::memcmp(found + i, expected + i, sizeof(T)) == 0) continue;
            if (wrong++ != 0) continue;
            std::ostringstream text;
            text << what << " lane " << i << ": expected " << +expected[i] << ", found " << +found[i];
            first = text.str();
        }
    }
    void finish(std::size_t at_least) const {
        INFO(first);
        CHECK(wrong == 0);
        CHECK(compared >= at_least);
    }
};

/// Exactly `count` values at the end of a heap block, one element behind its start: not aligned to anything larger, and
/// the sanitizer sees every byte beyond.
template <class T>
struct tight_buffer {
    explicit tight_buffer(std::size_t count) : memory(new T[count + 1]), data(memory.get() + 1) {}
    std::unique_ptr<T[]> memory;
    T* data;
};
