// hlwq/output_folder.hpp — the folder that a command writes: refused, taken, resumed, completed
//
// While a run is unfinished `.hlwq-state.json` lies in the folder: the options, what identifies the input, and name,
// size and checksum of every finished file. A resumed run verifies those files and writes the others; what it writes is
// what an uninterrupted run would have written. Files appear under their names when they are complete; the index, and
// polar_config.json behind it, come last; then the state is removed.
//
// Files of others are neither removed nor replaced, except, with --force, where they have the name of one of ours.
// Links are replaced, never followed.
#pragma once

#include "hlwq/program.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tool {

/// A file of the input that goes to the output: as it is, or with other content.
struct carried_file {
    std::filesystem::path name;  // relative
    std::optional<std::string> content;
};

struct carried_files {
    std::vector<carried_file> files;
    std::vector<std::string> left;  // names of what stays behind
};

/// Configuration, tokenizer, template and licence files of a checkpoint's folder; `tensors` are the files that its
/// tensors lie in.
carried_files find_carried_files(const std::filesystem::path& folder,
                                 const std::vector<std::filesystem::path>& tensors);

/// Names, sizes and header checksums of the input's tensor files, and the checksum of its configuration.
nlohmann::json identify_input(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& files);

class output_folder {
  public:
    enum class stage { fresh, resumed, complete };

    /// Takes the folder or says why not. `options` are those that decide the output; `last_files` are written at the
    /// end, in order: name and content.
    output_folder(const output_settings& settings, nlohmann::json options, nlohmann::json input,
                  std::vector<std::pair<std::string, std::string>> last_files,
                  const std::vector<std::string>& shard_names);

    /// `complete` where --resume finds a folder that needs nothing.
    stage found() const noexcept { return stage_; }
    std::filesystem::path path(const std::filesystem::path& name) const { return folder_ / name; }

    /// What was recorded for a file that is finished and still has its checksum; nothing otherwise.
    std::optional<nlohmann::json> finished(const std::string& name) const;
    /// Records a finished file; `notes` come back from `finished` in a resumed run.
    void record(const std::string& name, std::uint64_t bytes, std::uint64_t checksum, nlohmann::json notes);
    void copy(const std::filesystem::path& from, const carried_files& files);
    /// Writes the last files and removes the state.
    void complete();

  private:
    // Held while the object lives, and given up by the system however the process ends.
    class lock {
      public:
        explicit lock(const std::filesystem::path& folder);
        lock(const lock&) = delete;
        lock& operator=(const lock&) = delete;
        ~lock();

      private:
        int fd_;
    };

    bool is_complete(const std::vector<std::string>& shard_names) const;
    void remove_previous(const std::vector<std::string>& shard_names) const;
    void save_state() const;

    std::filesystem::path folder_;
    std::optional<lock> lock_;
    nlohmann::json state_;
    std::vector<std::pair<std::string, std::string>> last_files_;
    stage stage_ = stage::fresh;
};

}  // namespace tool
