// console/page.hpp — a page of facts, bars and tables: one HTML file that needs nothing beside it
//
// Charts are SVG inside the page; there are no scripts and no fonts to fetch. Whatever text is given is escaped.
//
// Example
//   console::page page("Report");
//   page.heading("Bytes by kind");
//   page.bars({{"experts", "17 MB", 17e6, "quantized"}});
//   hlwq::io::write_text_atomically(path, page.html());
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace console {

/// printf for one number.
std::string number(const char* form, double value);

/// A bar of a chart.
struct bar {
    std::string label;  // left of it
    std::string value;  // right of it
    double length = 0;  // in any unit; the longest of a chart is drawn at full width
    std::string look;   // "quantized", "kept", "error" or "plain"
};

class page {
  public:
    explicit page(std::string_view title);

    void heading(std::string_view text);
    void paragraph(std::string_view text);
    /// Names and values, one below the other.
    void facts(const std::vector<std::pair<std::string, std::string>>& list);
    /// A horizontal bar for each; a length that is not finite is drawn as none.
    void bars(const std::vector<bar>& list);
    /// A table; a column whose title begins with '#' holds numbers, which are aligned to the right.
    void table(const std::vector<std::string>& titles, const std::vector<std::vector<std::string>>& rows);

    /// The whole page.
    std::string html() const;

  private:
    std::string body_;
};

}  // namespace console
