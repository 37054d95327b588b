// Byte-level BPE from tokenizer.json: text to ids, ids to text
//
// Encoding, in the order of the reference: added tokens are cut out (leftmost, longest); every piece between them is
// normalised to NFC; the pre-tokenizer pattern of the file splits it; inside each split the pair of lowest rank is
// merged until none is left. Nothing is added in front or behind.
//
// Time is linear in the text but for the merges of one split, which take n log n: a megabyte of one letter is a split
// like any other. A tokenizer is constant after it was loaded; any number of threads may use it.
//
//   speed    bench/tokenizer.cpp; 250,000 entries, 2 cores of a shared Xeon (model 207), 2026-11-21, processor time:
//            ordinary text 24 MB/s, one split of a megabyte 5 MB/s and more, loading 0.28 s
//   throws   hlwq::format_error for a file that contradicts itself or text that is not UTF-8, hlwq::unsupported_error
//            for tokenizers of another kind; both say what and where
//
// Limits: characters newer than the Unicode of the installed PCRE2 and utf8proc are taken for unassigned. The reference
// normalises with the combining classes of Unicode 9; it leaves 98 later marks where they stand in a text that is not
// in canonical order, which are sorted here (tests/interop/tokenizers_compare.py).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qwen {

using token_id = std::uint32_t;

/// Whether added tokens that are written out in a text become those tokens. Untrusted text asks for `as_text`.
enum class added_tokens : std::uint8_t { recognise, as_text };

class tokenizer {
  public:
    /// Reads a tokenizer.json.
    explicit tokenizer(const std::filesystem::path& file);
    tokenizer(std::string_view json, std::string_view source);
    tokenizer(tokenizer&&) noexcept;
    tokenizer& operator=(tokenizer&&) noexcept;
    ~tokenizer();

    /// Ids of a UTF-8 text.
    std::vector<token_id> encode(std::string_view text, added_tokens mode = added_tokens::recognise) const;

    /// Text of ids; bytes that form no character become U+FFFD. Special tokens are left out when `skip_special`.
    std::string decode(std::span<const token_id> ids, bool skip_special = false) const;

    /// The bytes of one token: possibly a part of a character. Empty for ids without a token.
    std::string_view bytes_of(token_id id) const noexcept;
    /// Whether the id is a special added token ("<|im_end|>", but not "<think>").
    bool is_special(token_id id) const noexcept;
    bool is_added(token_id id) const noexcept;
    /// The id of an added token or of a vocabulary entry in its raw spelling; nothing if there is none.
    const token_id* find(std::string_view content) const noexcept;
    /// One more than the highest id.
    std::size_t size() const noexcept;

  private:
    struct tables;
    std::unique_ptr<tables> tables_;
};

/// Turns a stream of tokens into text without ever emitting a part of a character.
class streaming_decoder {
  public:
    explicit streaming_decoder(const tokenizer& source, bool skip_special = false)
        : tokenizer_(&source), skip_special_(skip_special) {}

    /// The text that became certain with this token; often empty inside a multi-byte character.
    std::string push(token_id id);
    /// What is left at the end; an incomplete character becomes U+FFFD.
    std::string finish();

  private:
    const tokenizer* tokenizer_;
    bool skip_special_;
    std::string pending_;
};

}  // namespace qwen
