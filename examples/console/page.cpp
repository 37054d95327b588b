#include "console/page.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace console {

namespace {

constexpr const char* style = R"(
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .2rem .6rem; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #999; } tr + tr td { border-top: 1px solid #ddd; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
svg text { font: 13px system-ui, sans-serif; fill: #222; }
.quantized { fill: #2a7; } .kept { fill: #aaa; } .error { fill: #c63; } .plain { fill: #47b; }
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

}  // namespace

std::string number(const char* form, double value) {
    char text[64];
    std::snprintf(text, sizeof text, form, value);
    return text;
}

page::page(std::string_view title) {
    const std::string name = escaped(title);
    body_ = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + name + "</title><style>" +
            style + "</style></head><body>\n<h1>" + name + "</h1>\n";
}

void page::heading(std::string_view text) { body_.append("<h2>").append(escaped(text)).append("</h2>\n"); }

void page::paragraph(std::string_view text) { body_.append("<p>").append(escaped(text)).append("</p>\n"); }

void page::facts(const std::vector<std::pair<std::string, std::string>>& list) {
    body_ += "<table>\n";
    for (const auto& [name, value] : list) {
        body_.append("<tr><td>")
            .append(escaped(name))
            .append("</td><td>")
            .append(escaped(value))
            .append("</td></tr>\n");
    }
    body_ += "</table>\n";
}

void page::bars(const std::vector<bar>& list) {
    constexpr int row = 22, left = 250;
    constexpr double width = 480.0;
    double longest = 0.0;
    for (const bar& one : list) {
        if (std::isfinite(one.length)) longest = std::max(longest, one.length);
    }
    const int height = row * static_cast<int>(list.size());
    body_.append("<svg role=\"img\" width=\"100%\" viewBox=\"0 0 900 ").append(std::to_string(height)).append("\">\n");
    for (std::size_t k = 0; k < list.size(); ++k) {
        const int top = row * static_cast<int>(k);
        const bool drawn = std::isfinite(list[k].length) && longest > 0.0;
        const double length = std::max(1.0, drawn ? list[k].length / longest * width : 0.0);
        const std::string middle = std::to_string(top + 15);
        body_ += "<text x=\"" + std::to_string(left - 10) + "\" y=\"" + middle + "\" text-anchor=\"end\">" +
                 escaped(list[k].label) + "</text><rect class=\"" + escaped(list[k].look) + "\" x=\"" +
                 std::to_string(left) + "\" y=\"" + std::to_string(top + 3) + "\" height=\"15\" width=\"" +
                 number("%.1f", length) + "\"/><text x=\"" + number("%.1f", left + length + 8) + "\" y=\"" + middle +
                 "\">" + escaped(list[k].value) + "</text>\n";
    }
    body_ += "</svg>\n";
}

void page::table(const std::vector<std::string>& titles, const std::vector<std::vector<std::string>>& rows) {
    const auto column = [&](std::size_t k) { return k < titles.size() && titles[k].starts_with('#'); };
    const auto cell = [&](const char* kind, std::size_t k, std::string_view text) {
        body_.append("<").append(kind).append(column(k) ? " class=\"number\">" : ">");
        body_.append(escaped(text)).append("</").append(kind).append(">");
    };
    body_ += "<table><tr>";
    for (std::size_t k = 0; k < titles.size(); ++k) {
        cell("th", k, std::string_view(titles[k]).substr(column(k) ? 1 : 0));
    }
    body_ += "</tr>\n";
    for (const auto& row : rows) {
        body_ += "<tr>";
        for (std::size_t k = 0; k < row.size(); ++k) cell("td", k, row[k]);
        body_ += "</tr>\n";
    }
    body_ += "</table>\n";
}

std::string page::html() const { return body_ + "</body></html>\n"; }

}  // namespace console
