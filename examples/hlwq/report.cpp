#include "hlwq/report.hpp"

#include "console/terminal.hpp"
#include "hlwq/io/file.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace tool {

namespace {

using hlwq::checkpoint::coverage_row;
using hlwq::checkpoint::decision;

constexpr const char* style = R"(
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .2rem .6rem; text-align: left; }
th { border-bottom: 2px solid #999; } tr + tr td { border-top: 1px solid #ddd; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
svg text { font: 13px system-ui, sans-serif; fill: #222; }
.quantized { fill: #2a7; } .kept { fill: #aaa; } .error { fill: #c63; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } svg text { fill: #ddd; }
  tr + tr td { border-color: #444; } })";

std::string escaped(std::string_view text) {
    std::string result;
    for (const char c : text) {
        switch (c) {
            case '&': result += "&amp;"; break;
            case '<': result += "&lt;"; break;
            case '>': result += "&gt;"; break;
            case '"': result += "&quot;"; break;
            default: result += c;
        }
    }
    return result;
}

std::string number(const char* form, double value) {
    char text[48];
    std::snprintf(text, sizeof text, form, value);
    return text;
}

struct bar {
    std::string label, value;
    double length;  // of the longest: 1
    const char* look;
};

std::string draw(const std::vector<bar>& bars) {
    constexpr int row = 22, left = 250, width = 480;
    const int height = row * static_cast<int>(bars.size());
    std::string svg = "<svg role=\"img\" width=\"100%\" viewBox=\"0 0 900 " + std::to_string(height) + "\">\n";
    for (std::size_t k = 0; k < bars.size(); ++k) {
        const int top = row * static_cast<int>(k);
        const double length = std::max(1.0, bars[k].length * width);
        const std::string middle = std::to_string(top + 15);
        svg += "<text x=\"" + std::to_string(left - 10) + "\" y=\"" + middle + "\" text-anchor=\"end\">" +
               escaped(bars[k].label) + "</text><rect class=\"" + bars[k].look + "\" x=\"" + std::to_string(left) +
               "\" y=\"" + std::to_string(top + 3) + "\" height=\"15\" width=\"" + number("%.1f", length) +
               "\"/><text x=\"" + number("%.1f", left + length + 8) + "\" y=\"" + middle + "\">" +
               escaped(bars[k].value) + "</text>\n";
    }
    return svg + "</svg>\n";
}

std::string label_of(const coverage_row& row) {
    return row.kind + (row.what == decision::action::quantize ? " Q" + std::to_string(row.bits) : "");
}

std::string sizes(const std::vector<coverage_row>& rows) {
    double largest = 1.0;
    for (const auto& row : rows) largest = std::max(largest, static_cast<double>(row.bytes));
    std::vector<bar> bars;
    for (const auto& row : rows) {
        const auto bytes = static_cast<double>(row.bytes);
        bars.push_back({label_of(row), console::size_text(bytes), bytes / largest,
                        row.what == decision::action::quantize ? "quantized" : "kept"});
    }
    std::stable_sort(bars.begin(), bars.end(), [](const bar& a, const bar& b) { return a.length > b.length; });
    return draw(bars);
}

std::string errors(const std::vector<coverage_row>& rows) {
    double largest = 0.0;
    for (const auto& row : rows) {
        if (row.measured) largest = std::max(largest, row.error.relative_mse());
    }
    std::vector<bar> bars;
    for (const auto& row : rows) {
        if (!row.measured) continue;
        const double mse = row.error.relative_mse();
        bars.push_back({label_of(row),
                        number("%.3e", mse) + number(", %.1f dB", -10.0 * std::log10(std::max(mse, 1e-30))),
                        largest > 0.0 ? mse / largest : 0.0, "error"});
    }
    return bars.empty() ? "<p>Not measured.</p>\n" : draw(bars);
}

std::string table(const std::vector<coverage_row>& rows) {
    std::string html =
        "<table><tr><th>kind</th><th>action</th><th class=\"number\">count</th><th class=\"number\">parameters</th>"
        "<th class=\"number\">bytes</th><th class=\"number\">relative MSE</th><th>rule</th></tr>\n";
    for (const auto& row : rows) {
        const std::string action = row.what == decision::action::quantize ? "Q" + std::to_string(row.bits) : "keep";
        html += "<tr><td>" + escaped(row.kind) + "</td><td>" + action + "</td><td class=\"number\">" +
                console::grouped(row.count) + "</td><td class=\"number\">" + console::grouped(row.parameters) +
                "</td><td class=\"number\">" + console::grouped(row.bytes) + "</td><td class=\"number\">" +
                (row.measured ? number("%.3e", row.error.relative_mse()) : "") + "</td><td>" + escaped(row.reason) +
                "</td></tr>\n";
    }
    return html + "</table>\n";
}

}  // namespace

void write_report(const std::filesystem::path& path, const std::string& title,
                  const std::vector<std::pair<std::string, std::string>>& facts,
                  const hlwq::checkpoint::coverage& coverage) {
    const auto rows = coverage.rows();
    std::string html = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + escaped(title) +
                       "</title><style>" + style + "</style></head><body>\n<h1>" + escaped(title) + "</h1>\n<table>\n";
    for (const auto& [name, value] : facts) {
        html += "<tr><td>" + escaped(name) + "</td><td>" + escaped(value) + "</td></tr>\n";
    }
    html += "</table>\n<h2>Bytes by kind</h2>\n" + sizes(rows) + "<h2>Relative mean square error by kind</h2>\n" +
            errors(rows) + "<h2>Every tensor</h2>\n" + table(rows) + "</body></html>\n";
    hlwq::io::write_text_atomically(path, html);
}

}  // namespace tool
