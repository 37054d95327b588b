// console/terminal.hpp — what a stream is connected to, and numbers for people
//
// Colours and moving lines only where a person looks at a terminal: never in files and pipes, never when NO_COLOR is
// set or TERM is "dumb". Sizes are decimal as everywhere in this project: 1 GB = 10^9 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace console {

/// What the file descriptor `fd` is connected to.
struct terminal {
    bool interactive = false;  // a terminal that can move its cursor
    bool colour = false;
    int columns = 80;
};
terminal inspect(int fd);

enum class colour { plain, bold, faint, red, green, yellow };

/// `text` in that colour if the terminal shows colours, else as it is.
std::string paint(const terminal& where, colour shade, std::string_view text);

/// "1.23 GB", "17.0 kB", "5 B".
std::string size_text(double bytes);
/// "1.23 G", "456 M", "789", "0.16".
std::string count_text(double count);
/// "5 s", "2 min 05 s", "1 h 03 min".
std::string duration_text(double seconds);
/// 12345678 as "12,345,678".
std::string grouped(std::uint64_t number);

}  // namespace console
