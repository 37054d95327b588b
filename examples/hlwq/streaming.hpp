// hlwq/streaming.hpp — planned shards are written piece by piece, in bounded memory
//
// Memory is what is resident: buffers of our own, and pages of the mapped input until they are given back. Commands
// work on rows: `memory_budget` says how many at a time, `mapped_pages` gives pages back behind them.
#pragma once

#include "console/progress.hpp"
#include "hlwq/output_folder.hpp"
#include "hlwq/program.hpp"
#include "hlwq/shard_plan.hpp"
#include "hlwq/io/checkpoint.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tool {

/// The mapped files of a checkpoint.
class mapped_pages {
  public:
    explicit mapped_pages(const hlwq::checkpoint::reader& model) : model_(&model) {}

    /// From now on pages are given back whenever so many bytes may have become resident.
    void set_limit(std::uint64_t bytes) noexcept { limit_ = bytes; }
    /// Says that `bytes` were read somewhere; their pages are no longer needed.
    void passed(std::uint64_t bytes) noexcept;
    void release() noexcept;

  private:
    const hlwq::checkpoint::reader* model_;
    std::uint64_t limit_ = std::uint64_t{16} << 20;
    std::uint64_t resident_ = 0;
};

/// What may be used between now and the end of the run.
class memory_budget {
  public:
    /// `fixed`: bytes that the work needs however small its steps; `row`: the most that a single row needs. Throws
    /// usage_error that says the minimum if `limit` is below it. Call it when everything else is in memory.
    memory_budget(std::uint64_t limit, std::uint64_t fixed, std::uint64_t row);

    /// Rows of `row_bytes` each to take at a time, at least 1.
    std::size_t rows(std::uint64_t row_bytes) const noexcept;
    /// For mapped_pages::set_limit.
    std::uint64_t pages() const noexcept { return pages_; }

  private:
    std::uint64_t step_ = 0, pages_ = 0;
};

/// Memory that `write_shards` itself needs for a plan.
std::uint64_t memory_of(const shard_plan& plan);

/// Writes the outputs of pieces: implemented by the commands.
class piece_writer {
  public:
    piece_writer() = default;
    piece_writer(const piece_writer&) = delete;
    piece_writer& operator=(const piece_writer&) = delete;
    virtual ~piece_writer() = default;

    /// Appends all bytes of one output. Outputs of a piece come in their order, codes directly before norms.
    virtual void write(const piece& p, std::size_t output, hlwq::safetensors::writer& to) = 0;
    /// What shall be remembered of finished pieces, and given back in a resumed run.
    virtual nlohmann::json notes(const shard& file) const = 0;
    virtual void restore(const shard& file, const nlohmann::json& notes) = 0;
};

/// Writes what is not finished yet, then completes the folder.
void write_shards(const shard_plan& plan, output_folder& folder, piece_writer& writer, console::progress& bar);

/// Copies a tensor that is kept, in pieces.
void copy_tensor(std::span<const std::byte> bytes, std::uint64_t weights, const std::string& name, mapped_pages& pages,
                 console::progress& bar, hlwq::safetensors::writer& to);

/// The files that the tensors of a checkpoint lie in.
std::vector<std::filesystem::path> tensor_files(const hlwq::checkpoint::reader& model);

}  // namespace tool
