// hlwq/report.hpp — a page about a quantization: one HTML file that needs nothing beside it
#pragma once

#include "hlwq/io/recipe.hpp"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace tool {

/// Writes the page, whole or not at all: `facts` as a list of name and value, sizes and errors by kind as bars, and
/// the table of all kinds with the rule that decided about each.
void write_report(const std::filesystem::path& path, const std::string& title,
                  const std::vector<std::pair<std::string, std::string>>& facts,
                  const hlwq::checkpoint::coverage& coverage);

}  // namespace tool
