#include "console/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace console {

terminal inspect(int fd) {
    terminal result;
    if (::isatty(fd) == 0) return result;
    const char* kind = std::getenv("TERM");
    result.interactive = kind != nullptr && std::strcmp(kind, "dumb") != 0 && *kind != '\0';
    const char* no_colour = std::getenv("NO_COLOR");
    result.colour = result.interactive && (no_colour == nullptr || *no_colour == '\0');
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) result.columns = size.ws_col;
    return result;
}

std::string paint(const terminal& where, colour shade, std::string_view text) {
    if (!where.colour || shade == colour::plain) return std::string(text);
    const char* code = "";
    switch (shade) {
        case colour::plain: break;
        case colour::bold: code = "\033[1m"; break;
        case colour::faint: code = "\033[2m"; break;
        case colour::red: code = "\033[31m"; break;
        case colour::green: code = "\033[32m"; break;
        case colour::yellow: code = "\033[33m"; break;
    }
    return std::string(code) + std::string(text) + "\033[0m";
}

namespace {

/// Three significant digits, or a whole number below 1000, and a decimal prefix.
std::string with_prefix(double value) {
    static constexpr const char* prefixes[] = {"", "k", "M", "G", "T", "P"};
    int step = 0;
    while (value >= 999.5 && step < 5) {
        value /= 1000.0;
        ++step;
    }
    char text[32];
    const bool whole = step == 0 && value == std::floor(value);
    const int digits = whole || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    std::snprintf(text, sizeof text, "%.*f %s", digits, value, prefixes[step]);
    return text;
}

}  // namespace

std::string size_text(double bytes) { return with_prefix(bytes) + "B"; }

std::string count_text(double count) {
    std::string text = with_prefix(count);
    if (text.back() == ' ') text.pop_back();
    return text;
}

std::string duration_text(double seconds) {
    if (!std::isfinite(seconds)) return "?";
    const auto whole = static_cast<std::uint64_t>(std::llround(seconds < 0.0 ? 0.0 : seconds));
    char text[48];
    if (whole < 60) {
        std::snprintf(text, sizeof text, "%d s", static_cast<int>(whole));
    } else if (whole < 3600) {
        std::snprintf(text, sizeof text, "%d min %02d s", static_cast<int>(whole / 60), static_cast<int>(whole % 60));
    } else {
        std::snprintf(text, sizeof text, "%llu h %02d min", static_cast<unsigned long long>(whole / 3600),
                      static_cast<int>(whole / 60 % 60));
    }
    return text;
}

std::string grouped(std::uint64_t number) {
    std::string text = std::to_string(number);
    for (std::size_t at = text.size(); at > 3;) {
        at -= 3;
        text.insert(at, 1, ',');
    }
    return text;
}

}  // namespace console
