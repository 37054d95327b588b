// What happens to a text before BPE: normalisation to NFC, and the split by the pattern of tokenizer.json
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace qwen {

/// NFC of well-formed text; the text itself where nothing can change, else `storage`. Throws hlwq::format_error.
std::string_view to_nfc(std::string_view text, std::string& storage);

/// The pattern of a Split step, compiled.
class splitter {
  public:
    splitter() = default;
    /// Throws hlwq::format_error, naming `source`, for a pattern that is none.
    splitter(const std::string& pattern, std::string_view source);

    /// Calls f for every split, matches and what lies between them alike. Throws hlwq::format_error where the pattern
    /// gives up.
    /// promises: text is well-formed UTF-8
    void split(std::string_view text, const std::function<void(std::string_view)>& f) const;

  private:
    std::shared_ptr<const void> regex_;  // a compiled pattern is constant and may be shared
};

}  // namespace qwen
