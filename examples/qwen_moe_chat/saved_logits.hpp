// qwen_moe_chat/saved_logits.hpp — logits of a text in a file, so that a large base model runs only once
//
// A safetensors file:
//
//   ids       I64 [tokens]              the text
//   logits    F32 [scored, vocabulary]  one row for each scored token, in order
//   metadata  "protocol", as evaluation.hpp describes it
//
// F32, because a divergence from the file shall be the divergence from the model, to the last bit: 4 bytes a vocabulary
// entry and scored token, 1 GB for 1000 tokens of 250k entries. A reader refuses a file that belongs to another text,
// protocol or vocabulary.
//
//   throws   format_error, io_error
#pragma once

#include "qwen_moe_chat/evaluation.hpp"

#include "hlwq/io/safetensors.hpp"
#include "hlwq/io/safetensors_writer.hpp"

#include <cstddef>
#include <filesystem>
#include <span>

namespace qwen {

/// Writes such a file; it appears under its name at `finish`.
class logits_writer {
  public:
    logits_writer(const std::filesystem::path& path, std::span<const token_id> ids, const window_protocol& protocol,
                  std::size_t vocabulary);

    /// The logits that scored the next tokens.
    void append(matrix_view<const float> rows);
    void finish() { file_.finish(); }

  private:
    hlwq::safetensors::writer file_;
};

/// Reads such a file as the base of a divergence.
class saved_logits : public logits_source {
  public:
    saved_logits(const std::filesystem::path& path, std::span<const token_id> ids, const window_protocol& protocol);

    std::size_t vocabulary() const noexcept override { return vocabulary_; }
    void start() override {}
    void feed(std::span<const token_id>) override {}
    matrix_view<const float> logits(std::size_t begin, std::size_t end) override;

  private:
    hlwq::safetensors::reader file_;
    std::span<const std::byte> rows_;  // those not read yet
    std::span<const std::byte> read_;  // those that were, still mapped
    std::size_t vocabulary_ = 0;
};

}  // namespace qwen
