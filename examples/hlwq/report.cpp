#include "hlwq/report.hpp"

#include "console/page.hpp"
#include "console/terminal.hpp"
#include "hlwq/io/file.hpp"

#include <algorithm>
#include <cmath>

namespace tool {

namespace {

using console::number;
using hlwq::checkpoint::coverage_row;
using hlwq::checkpoint::decision;

std::string label_of(const coverage_row& row) {
    return row.kind + (row.what == decision::action::quantize ? " Q" + std::to_string(row.bits) : "");
}

void add_sizes(console::page& page, const std::vector<coverage_row>& rows) {
    std::vector<console::bar> bars;
    for (const auto& row : rows) {
        const auto bytes = static_cast<double>(row.bytes);
        bars.push_back({label_of(row), console::size_text(bytes), bytes,
                        row.what == decision::action::quantize ? "quantized" : "kept"});
    }
    std::stable_sort(bars.begin(), bars.end(),
                     [](const console::bar& a, const console::bar& b) { return a.length > b.length; });
    page.bars(bars);
}

void add_errors(console::page& page, const std::vector<coverage_row>& rows) {
    std::vector<console::bar> bars;
    for (const auto& row : rows) {
        if (!row.measured) continue;
        const double mse = row.error.relative_mse();
        bars.push_back({label_of(row),
                        number("%.3e", mse) + number(", %.1f dB", -10.0 * std::log10(std::max(mse, 1e-30))), mse,
                        "error"});
    }
    if (bars.empty()) {
        page.paragraph("Not measured.");
    } else {
        page.bars(bars);
    }
}

void add_table(console::page& page, const std::vector<coverage_row>& rows) {
    std::vector<std::vector<std::string>> cells;
    for (const auto& row : rows) {
        cells.push_back({row.kind, row.what == decision::action::quantize ? "Q" + std::to_string(row.bits) : "keep",
                         console::grouped(row.count), console::grouped(row.parameters), console::grouped(row.bytes),
                         row.measured ? number("%.3e", row.error.relative_mse()) : "", row.reason});
    }
    page.table({"kind", "action", "#count", "#parameters", "#bytes", "#relative MSE", "rule"}, cells);
}

}  // namespace

void write_report(const std::filesystem::path& path, const std::string& title,
                  const std::vector<std::pair<std::string, std::string>>& facts,
                  const hlwq::checkpoint::coverage& coverage) {
    const auto rows = coverage.rows();
    console::page page(title);
    page.facts(facts);
    page.heading("Bytes by kind");
    add_sizes(page, rows);
    page.heading("Relative mean square error by kind");
    add_errors(page, rows);
    page.heading("Every tensor");
    add_table(page, rows);
    hlwq::io::write_text_atomically(path, page.html());
}

}  // namespace tool
