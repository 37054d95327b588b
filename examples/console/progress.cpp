#include "console/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace console {

namespace {

constexpr auto redraw_interval = std::chrono::milliseconds(100);
constexpr auto line_interval = std::chrono::seconds(10);
// Rates are of the last seconds: tensors differ in speed, and a mean since the start lags behind.
constexpr auto rate_window = std::chrono::seconds(15);

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

}  // namespace

progress::progress(std::string label, std::string unit, std::uint64_t total, std::uint64_t total_bytes)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      total_bytes_(total_bytes),
      terminal_(inspect(STDERR_FILENO)),
      start_(clock::now()),
      last_draw_(start_) {
    samples_.push_back({start_, 0, 0});
}

progress::~progress() { clear(); }

void progress::skip(std::uint64_t count, std::uint64_t bytes) {
    skipped_ += count;
    skipped_bytes_ += bytes;
}

void progress::advance(std::uint64_t count, std::uint64_t bytes, std::string_view at) {
    done_ += count;
    done_bytes_ += bytes;
    const auto now = clock::now();
    if (terminal_.interactive) {
        if (now - last_draw_ < redraw_interval) return;
    } else if (now - last_draw_ < line_interval) {
        return;
    }
    draw(at, now);
}

std::string progress::rates(double seconds, double count, double bytes) const {
    if (seconds <= 0.0) return "";
    std::string text = count_text(count / seconds) + " " + unit_ + "/s";
    if (total_bytes_ != 0) text += ", " + size_text(bytes / seconds) + "/s";
    return text;
}

void progress::draw(std::string_view at, clock::time_point now) {
    last_draw_ = now;
    samples_.push_back({now, done_, done_bytes_});
    while (samples_.size() > 2 && now - samples_.front().when > rate_window) samples_.pop_front();
    const sample& oldest = samples_.front();
    const double seconds = seconds_between(oldest.when, now);
    const auto recent = static_cast<double>(done_ - oldest.count);
    const double finished = static_cast<double>(done_ + skipped_);
    const double fraction = total_ == 0 ? 1.0 : std::min(1.0, finished / static_cast<double>(total_));

    char percent[16];
    std::snprintf(percent, sizeof percent, "%3.0f %%", fraction * 100.0);
    std::string status = rates(seconds, recent, static_cast<double>(done_bytes_ - oldest.bytes));
    if (recent > 0.0 && seconds > 0.0) {
        const double left = (static_cast<double>(total_) - finished) * seconds / recent;
        status += ", " + duration_text(left) + " left";
    }
    if (!terminal_.interactive) {
        std::fprintf(stderr, "%s: %s, %s%s%.*s\n", label_.c_str(), percent, status.c_str(), at.empty() ? "" : "; ",
                     static_cast<int>(at.size()), at.data());
        return;
    }
    constexpr int bar_width = 24;
    const int filled = static_cast<int>(fraction * bar_width);
    std::string bar;
    for (int k = 0; k < bar_width; ++k) bar += k < filled ? "█" : "░";
    const std::string head = label_ + " ", tail = " " + std::string(percent) + "  " + status;
    const auto used = static_cast<int>(head.size() + tail.size()) + bar_width;
    std::string name;
    if (const int room = terminal_.columns - used - 3; room >= 12) {
        // The end of a tensor's name tells more than its beginning.
        name = at.size() <= static_cast<std::size_t>(room)
                   ? std::string(at)
                   : "..." + std::string(at.substr(at.size() - static_cast<std::size_t>(room) + 3));
        name = "  " + paint(terminal_, colour::faint, name);
    }
    std::fprintf(stderr, "\r%s%s%s%s\033[K", head.c_str(), paint(terminal_, colour::green, bar).c_str(), tail.c_str(),
                 name.c_str());
    std::fflush(stderr);
    shown_ = true;
}

void progress::clear() {
    if (!shown_) return;
    std::fputs("\r\033[K", stderr);
    std::fflush(stderr);
    shown_ = false;
}

void progress::finish() {
    clear();
    const double seconds = seconds_between(start_, clock::now());
    const std::string speed = rates(seconds, static_cast<double>(done_), static_cast<double>(done_bytes_));
    std::fprintf(stderr, "%s: %s %s in %.1f s%s%s\n", label_.c_str(), count_text(static_cast<double>(done_)).c_str(),
                 unit_.c_str(), seconds, speed.empty() ? "" : ", ", speed.c_str());
}

}  // namespace console
