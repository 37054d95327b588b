// Chat templates: the part of Jinja that Hugging Face chat templates use, evaluated as Jinja 3 does with trim_blocks
// and lstrip_blocks
//
//   statements   set (also namespace attributes and blocks), if, for (else, filter, break, continue), macro, generation
//   expressions  literals, lists, mappings, operators, slices, `in`, `is`, a if c else b, filters, methods, calls
//   functions    raise_exception, namespace, range
//   filters, tests, methods: listed in jinja_functions.hpp
//
// What is not known is an error that names the template's line. A template cannot loop for ever: its work, its output
// and its nesting are bounded. `tojson` writes what Python's json.dumps(ensure_ascii=False) writes.
//
//   throws   hlwq::format_error: template NAME, line, what; template_error for raise_exception
#pragma once

#include "hlwq/error.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace qwen {

/// The template itself refused its input: the message is the template's.
class template_error : public hlwq::error {
  public:
    explicit template_error(const std::string& message) : hlwq::error(message) {}
};

class chat_template {
  public:
    static constexpr std::size_t most_work = 64'000'000;

    /// Parses a template; `name` stands for it in messages.
    explicit chat_template(std::string_view source, std::string name = "chat template");
    chat_template(chat_template&&) noexcept;
    chat_template& operator=(chat_template&&) noexcept;
    ~chat_template();

    /// The text for these variables: an object with messages, tools, add_generation_prompt and whatever else the
    /// template reads. `work` bounds what the template may do, about one for a nanosecond; all of the default takes a
    /// second and half a gigabyte.
    std::string render(const nlohmann::ordered_json& variables, std::size_t work = most_work) const;

  private:
    struct body;
    std::unique_ptr<const body> body_;
};

}  // namespace qwen
