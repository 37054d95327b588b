// console/progress.hpp — how far a long job is, how fast, and how long it will still take
//
// On a terminal one line that is redrawn; elsewhere a plain line every few seconds, so that a log stays readable. All
// of it goes to stderr; results belong to stdout.
//
// Example
//   console::progress bar("quantize", "weights", total_weights, total_bytes);
//   bar.skip(weights, bytes);                  // done by an earlier run: not part of the rate
//   bar.advance(weights, bytes, tensor_name);  // as often as you like
//   bar.finish();
#pragma once

#include "console/terminal.hpp"

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace console {

class progress {
  public:
    /// `total` counts work in `unit`; `total_bytes` what is read for it, 0 where bytes mean nothing.
    progress(std::string label, std::string unit, std::uint64_t total, std::uint64_t total_bytes);
    ~progress();
    progress(const progress&) = delete;
    progress& operator=(const progress&) = delete;

    void skip(std::uint64_t count, std::uint64_t bytes);
    void advance(std::uint64_t count, std::uint64_t bytes, std::string_view at);
    /// Replaces the line by a summary.
    void finish();
    /// Removes the line, so that something else can be printed.
    void clear();

  private:
    using clock = std::chrono::steady_clock;
    struct sample {
        clock::time_point when;
        std::uint64_t count;
        std::uint64_t bytes;
    };

    void draw(std::string_view at, clock::time_point now);
    std::string rates(double seconds, double count, double bytes) const;

    std::string label_, unit_;
    std::uint64_t total_, total_bytes_;
    std::uint64_t done_ = 0, done_bytes_ = 0, skipped_ = 0, skipped_bytes_ = 0;
    terminal terminal_;
    clock::time_point start_, last_draw_;
    std::deque<sample> samples_;
    bool shown_ = false;
};

}  // namespace console
