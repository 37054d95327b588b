#include "hlwq/output_folder.hpp"

#include "hlwq/error.hpp"
#include "hlwq/io/checksum.hpp"
#include "hlwq/io/file.hpp"
#include "hlwq/io/json.hpp"
#include "hlwq/io/safetensors.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <span>
#include <system_error>

namespace tool {

namespace fs = std::filesystem;

namespace {

constexpr const char* state_name = ".hlwq-state.json";
constexpr const char* index_name = "model.safetensors.index.json";
constexpr const char* polar_name = "polar_config.json";
constexpr int state_version = 1;
constexpr std::size_t copy_bytes = std::size_t{1} << 20;

std::string hexadecimal(std::uint64_t number) {
    char text[20];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(number));
    return text;
}

std::uint64_t checksum_of(std::string_view text) {
    hlwq::io::xxh64 sum;
    sum.update(std::as_bytes(std::span(text.data(), text.size())));
    return sum.digest();
}

/// Checksum of a regular file of that size; nothing if it is something else.
std::optional<std::uint64_t> checksum_of_file(const fs::path& path, std::uint64_t bytes) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return std::nullopt;
    hlwq::io::xxh64 sum;
    std::uint64_t seen = 0;
    struct stat status {};
    ssize_t count = -1;
    try {
        if (::fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
            static_cast<std::uint64_t>(status.st_size) == bytes) {
            const auto buffer = std::make_unique<std::byte[]>(copy_bytes);
            while ((count = ::read(fd, buffer.get(), copy_bytes)) != 0) {
                if (count < 0 && errno == EINTR) continue;
                if (count < 0) break;
                sum.update({buffer.get(), static_cast<std::size_t>(count)});
                seen += static_cast<std::uint64_t>(count);
                check_interrupted();
            }
        }
    } catch (...) {
        ::close(fd);
        throw;
    }
    ::close(fd);
    if (count != 0 || seen != bytes) return std::nullopt;
    return sum.digest();
}

bool is_link_or_file(const fs::path& path) {
    std::error_code ignored;
    const fs::file_status status = fs::symlink_status(path, ignored);
    return fs::is_symlink(status) || fs::is_regular_file(status);
}

void remove_file(const fs::path& path) {
    if (is_link_or_file(path) && ::unlink(path.c_str()) != 0 && errno != ENOENT) {
        hlwq::throw_io_error(path.string() + ": unlink", errno);
    }
}

/// "model.safetensors" or "model-00001-of-00002.safetensors": what `plan_shards` gives.
bool is_shard_name(std::string_view name) {
    if (name == "model.safetensors") return true;
    return name.starts_with("model-") && name.ends_with(".safetensors") && name.find("-of-") != name.npos &&
           name.find('/') == name.npos;
}

bool is_carried(const std::string& name) {
    if (name.starts_with(".") || name.ends_with(".index.json") || name == polar_name) return false;
    for (const std::string_view ending : {".json", ".jinja", ".txt", ".model", ".tiktoken"}) {
        if (name.ends_with(ending)) return true;
    }
    for (const std::string_view beginning : {"LICENSE", "LICENCE", "NOTICE", "COPYING"}) {
        if (name.starts_with(beginning)) return true;
    }
    return false;
}

/// A JSON file of ours, or null where there is none that can be read.
nlohmann::json read_json(const fs::path& path) {
    if (!fs::is_regular_file(fs::symlink_status(path))) return nullptr;
    nlohmann::json value = hlwq::io::parse_json(hlwq::io::read_text_file(path, std::size_t{1} << 30));
    return value.is_discarded() ? nlohmann::json(nullptr) : value;
}

/// Names of the shards of an earlier run of this program, from its state and its index.
std::set<std::string> earlier_shards(const fs::path& folder) {
    std::set<std::string> names;
    if (const auto state = read_json(folder / state_name); state.is_object() && state["shards"].is_array()) {
        for (const auto& name : state["shards"]) {
            if (name.is_string() && is_shard_name(name.get<std::string>())) names.insert(name.get<std::string>());
        }
    }
    const auto index = read_json(folder / index_name);
    if (!index.is_object() || !index.contains("metadata") || !index["metadata"].is_object()) return names;
    const std::string producer = index["metadata"].value("producer", nlohmann::json("")).dump();
    if (!producer.starts_with("\"hlwq ") || !index.contains("weight_map")) return names;
    for (const auto& name : index["weight_map"]) {
        if (name.is_string() && is_shard_name(name.get<std::string>())) names.insert(name.get<std::string>());
    }
    return names;
}

std::vector<std::string> entries_of(const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

std::string brief_list(const std::vector<std::string>& names) {
    std::string text;
    for (std::size_t k = 0; k < names.size() && k < 5; ++k) text += (k == 0 ? "" : ", ") + names[k];
    if (names.size() > 5) text += " and " + std::to_string(names.size() - 5) + " more";
    return text;
}

/// Throws unless the recorded options are those of this run.
void expect_same_options(const nlohmann::json& recorded, const nlohmann::json& now) {
    if (recorded.value("command", nlohmann::json()) != now["command"]) {
        throw usage_error("--resume: command: expected " + recorded.value("command", nlohmann::json()).dump() +
                          " as in the run to be resumed, found " + now["command"].dump());
    }
    for (const auto& [name, value] : now.items()) {
        const auto before = recorded.find(name);
        if (before == recorded.end() || *before != value) {
            throw usage_error("--resume: option " + name + ": expected " +
                              (before == recorded.end() ? "none" : before->dump()) +
                              " as in the run to be resumed, found " + value.dump());
        }
    }
}

void expect_same_input(const nlohmann::json& recorded, const nlohmann::json& now) {
    for (const auto& [name, value] : now.items()) {
        const auto before = recorded.find(name);
        if (before == recorded.end() || *before != value) {
            throw hlwq::format_error("--resume: input file " + name + ": expected " +
                                     (before == recorded.end() ? "none" : before->dump()) +
                                     " as in the run to be resumed, found " + value.dump());
        }
    }
    for (const auto& [name, value] : recorded.items()) {
        if (!now.contains(name)) {
            throw hlwq::format_error("--resume: input file " + name + ": expected " + value.dump() +
                                     " as in the run to be resumed, found none");
        }
    }
}

void copy_whole_file(const fs::path& from, const fs::path& to) {
    const hlwq::io::mapped_file source(from);
    hlwq::io::atomic_file target(to);
    for (auto rest = source.bytes(); !rest.empty();) {
        const auto part = rest.first(std::min(rest.size(), copy_bytes));
        target.write(part);
        hlwq::io::mapped_file::release(part);
        rest = rest.subspan(part.size());
        check_interrupted();
    }
    target.commit();
}

}  // namespace

carried_files find_carried_files(const fs::path& folder, const std::vector<fs::path>& tensors) {
    carried_files found;
    std::set<std::string> known{polar_name};
    for (const fs::path& path : tensors) known.insert(path.filename().string());
    for (const std::string& name : entries_of(folder)) {
        const fs::path path = folder / name;
        std::error_code ignored;
        if (name == "additional_chat_templates" && fs::is_directory(path, ignored)) {
            for (const std::string& inner : entries_of(path)) {
                if (fs::is_regular_file(path / inner, ignored)) found.files.push_back({fs::path(name) / inner, {}});
            }
        } else if (!fs::is_regular_file(path, ignored) || !is_carried(name)) {
            if (!known.contains(name) && !name.ends_with(".index.json")) found.left.push_back(name);
        } else {
            found.files.push_back({name, {}});
        }
    }
    return found;
}

nlohmann::json identify_input(const fs::path& folder, const std::vector<fs::path>& files) {
    nlohmann::json identity = nlohmann::json::object();
    for (const fs::path& path : files) {
        const hlwq::io::mapped_file file(path);
        const auto bytes = file.bytes();
        std::uint64_t length = 0;
        if (bytes.size() >= sizeof length) std::memcpy(&length, bytes.data(), sizeof length);
        const auto header = bytes.first(static_cast<std::size_t>(std::min<std::uint64_t>(length + 8, bytes.size())));
        hlwq::io::xxh64 sum;
        sum.update(header);
        identity[path.filename().string()] = {{"bytes", bytes.size()}, {"header", hexadecimal(sum.digest())}};
    }
    for (const char* name : {"config.json", polar_name}) {
        if (!fs::exists(folder / name)) continue;
        const std::string text = hlwq::io::read_text_file(folder / name, std::size_t{1} << 30);
        identity[name] = {{"bytes", text.size()}, {"content", hexadecimal(checksum_of(text))}};
    }
    return identity;
}

output_folder::lock::lock(const fs::path& folder) : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ < 0) hlwq::throw_io_error(folder.string(), errno);
    // File systems that know no locks say so; then there is none.
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        ::close(fd_);
        hlwq::throw_io_error("OUT_DIR " + folder.string() + ": expected no other run at work, found one", 0);
    }
}

output_folder::lock::~lock() { ::close(fd_); }

output_folder::output_folder(const output_settings& settings, nlohmann::json options, nlohmann::json input,
                             std::vector<std::pair<std::string, std::string>> last_files,
                             const std::vector<std::string>& shard_names)
    : folder_(settings.out), last_files_(std::move(last_files)) {
    if (settings.resume && settings.force) throw usage_error("--resume and --force: expected one of them, found both");
    if (fs::exists(folder_) && !fs::is_directory(folder_)) {
        throw usage_error("OUT_DIR " + folder_.string() + ": expected a folder, found a file");
    }
    std::error_code failure;
    fs::create_directories(folder_, failure);
    if (failure) hlwq::throw_io_error("OUT_DIR " + folder_.string(), failure.value());
    if (fs::equivalent(settings.in, folder_)) {
        throw usage_error("OUT_DIR " + folder_.string() + ": expected another folder than IN_DIR, found the same");
    }
    lock_.emplace(folder_);

    // All that a run leaves which ended before its state was complete.
    auto present = entries_of(folder_);
    std::erase(present, std::string(state_name) + ".partial");
    const bool unfinished = std::binary_search(present.begin(), present.end(), state_name);
    if (!present.empty() && !settings.resume && !settings.force) {
        throw usage_error("OUT_DIR " + folder_.string() + ": expected an empty folder (or " +
                          (unfinished ? "--resume to go on, --force to start again" : "--force") + "), found " +
                          brief_list(present));
    }
    if (settings.resume && unfinished) {
        state_ = read_json(folder_ / state_name);
        if (!state_.is_object() || state_.value("version", 0) != state_version || !state_["options"].is_object() ||
            !state_["input"].is_object() || !state_["files"].is_object()) {
            throw hlwq::format_error("--resume: " + (folder_ / state_name).string() +
                                     ": expected the state of a run, found something else");
        }
        expect_same_options(state_["options"], options);
        expect_same_input(state_["input"], input);
        stage_ = stage::resumed;
        return;
    }
    if (settings.resume && !present.empty()) {
        if (!is_complete(shard_names)) {
            throw usage_error("--resume: OUT_DIR " + folder_.string() +
                              ": expected an unfinished run or a complete one of the same options, found " +
                              brief_list(present));
        }
        stage_ = stage::complete;
        return;
    }
    if (settings.force) remove_previous(shard_names);
    state_ = {{"version", state_version},
              {"options", std::move(options)},
              {"input", std::move(input)},
              {"shards", shard_names},
              {"files", nlohmann::json::object()}};
    save_state();
}

bool output_folder::is_complete(const std::vector<std::string>& shard_names) const {
    for (const auto& [name, content] : last_files_) {
        if (!fs::is_regular_file(fs::symlink_status(folder_ / name))) return false;
        if (hlwq::io::read_text_file(folder_ / name, std::size_t{1} << 30) != content) return false;
    }
    for (const std::string& name : shard_names) {
        if (!fs::is_regular_file(fs::symlink_status(folder_ / name))) return false;
        try {
            const hlwq::safetensors::reader readable(folder_ / name);
        } catch (const hlwq::error&) {
            return false;
        }
    }
    return true;
}

void output_folder::remove_previous(const std::vector<std::string>& shard_names) const {
    const auto earlier = earlier_shards(folder_);
    // First what makes the folder a finished checkpoint.
    remove_file(folder_ / index_name);
    if (!earlier.empty()) remove_file(folder_ / polar_name);
    for (const auto& file : last_files_) remove_file(folder_ / file.first);
    for (const std::string& name : earlier) {
        remove_file(folder_ / name);
        remove_file(folder_ / (name + ".partial"));
    }
    std::vector<std::string> foreign;
    for (const std::string& name : entries_of(folder_)) {
        const bool weights = name.ends_with(".safetensors") || name == polar_name;
        const bool replaced = std::find(shard_names.begin(), shard_names.end(), name) != shard_names.end();
        if (weights && !replaced) foreign.push_back(name);
    }
    if (!foreign.empty()) remark("OUT_DIR: files of others stay there: " + brief_list(foreign));
}

void output_folder::save_state() const { hlwq::io::write_text_atomically(folder_ / state_name, state_.dump(1) + "\n"); }

std::optional<nlohmann::json> output_folder::finished(const std::string& name) const {
    if (stage_ != stage::resumed) return std::nullopt;
    const auto found = state_["files"].find(name);
    if (found == state_["files"].end() || !found->is_object()) return std::nullopt;
    const auto sum = checksum_of_file(folder_ / name, found->value("bytes", std::uint64_t{0}));
    if (!sum || found->value("checksum", std::string()) != hexadecimal(*sum)) return std::nullopt;
    return found->value("notes", nlohmann::json());
}

void output_folder::record(const std::string& name, std::uint64_t bytes, std::uint64_t checksum, nlohmann::json notes) {
    state_["files"][name] = {{"bytes", bytes}, {"checksum", hexadecimal(checksum)}, {"notes", std::move(notes)}};
    save_state();
}

void output_folder::copy(const fs::path& from, const carried_files& carried) {
    for (const carried_file& file : carried.files) {
        const fs::path to = folder_ / file.name;
        if (file.name.has_parent_path()) {
            fs::create_directory(to.parent_path());
            if (!fs::is_directory(fs::symlink_status(to.parent_path()))) {
                throw usage_error("OUT_DIR: " + to.parent_path().string() +
                                  ": expected a folder, found something else");
            }
        }
        if (file.content) {
            hlwq::io::write_text_atomically(to, *file.content);
        } else {
            copy_whole_file(from / file.name, to);
        }
    }
}

void output_folder::complete() {
    for (const auto& [name, content] : last_files_) hlwq::io::write_text_atomically(folder_ / name, content);
    remove_file(folder_ / state_name);
}

}  // namespace tool
