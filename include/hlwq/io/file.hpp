// hlwq/io/file.hpp — files: mapped for reading, written under a temporary name until complete
//
//   mapped_file   map of a whole file for reading; pages behind a cursor can be given back, and bytes be made writable
//                 for this program alone
//   atomic_file   `<name>.partial` in the same folder; commit = fsync, rename, fsync of the folder
//
// POSIX, 64-bit. A failed write leaves nothing under the final name, and what stood there before stays; the temporary
// file is removed unless it is to be kept. A file that somebody truncates while it is mapped ends the program with
// SIGBUS: the price of not copying.
//
//   throws   io_error with the path and errno
//   threads  a mapped_file may be read and released from any thread; an atomic_file belongs to one
//
// Example
//   hlwq::io::atomic_file out("model.safetensors");
//   out.write(bytes);
//   out.commit();
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace hlwq::io {

static_assert(sizeof(std::size_t) == 8 && sizeof(::off_t) == 8, "checkpoints exceed 32-bit sizes and offsets");

/// How a mapped file will be read: a hint for the read-ahead of the system.
enum class access_pattern { normal, sequential, random };

inline namespace HLWQ_CODE_NAMESPACE {

namespace detail {

/// Closes a descriptor when it goes out of scope.
class descriptor {
  public:
    descriptor() = default;
    explicit descriptor(int fd) noexcept : fd_(fd) {}
    descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    descriptor& operator=(descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    int get() const noexcept { return fd_; }
    /// Closes now and reports the result: a full disk may be noticed only here.
    int close() noexcept { return ::close(std::exchange(fd_, -1)); }

  private:
    int fd_ = -1;
};

/// O_NONBLOCK: a pipe is to be refused, not waited for; regular files do not know the difference.
inline descriptor open_file(const std::filesystem::path& path, int flags, mode_t mode = 0) {
    int fd;
    do {
        fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, mode);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) throw_io_error(path.string(), errno);
    return descriptor(fd);
}

/// Size of an open file; refuses everything that is not a regular one.
inline std::uint64_t regular_size(const descriptor& fd, const std::filesystem::path& path) {
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) throw_io_error(path.string() + ": stat", errno);
    if (!S_ISREG(status.st_mode)) {
        throw_io_error(path.string() + ": expected a regular file, found " +
                           (S_ISDIR(status.st_mode) ? "a folder" : "a special file"),
                       S_ISDIR(status.st_mode) ? EISDIR : EINVAL);
    }
    return static_cast<std::uint64_t>(status.st_size);
}

/// Writes all bytes at `offset` or throws.
inline void write_fully(int fd, std::span<const std::byte> bytes, std::uint64_t offset,
                        const std::filesystem::path& path) {
    constexpr std::size_t longest = std::size_t{1} << 30;  // one call: Linux stops below 2 GiB, macOS refuses above
    while (!bytes.empty()) {
        const ::ssize_t count =
            ::pwrite(fd, bytes.data(), std::min(bytes.size(), longest), static_cast<::off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        // Nothing written and no error would be repeated for ever.
        if (count <= 0) throw_io_error(path.string() + ": write", count < 0 ? errno : ENOSPC);
        offset += static_cast<std::uint64_t>(count);
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
}

}  // namespace detail

/// A whole file as read-only memory. Moving keeps the address of the bytes.
class mapped_file {
  public:
    mapped_file() = default;

    /// Maps all of `path`, a regular file; an empty one gives an empty span.
    explicit mapped_file(const std::filesystem::path& path) : path_(path) {
        const detail::descriptor fd = detail::open_file(path, O_RDONLY);
        const auto size = static_cast<std::size_t>(detail::regular_size(fd, path));
        if (size == 0) return;
        void* map = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
        if (map == MAP_FAILED) throw_io_error(path.string() + ": mmap", errno);
        data_ = static_cast<const std::byte*>(map);
        size_ = size;
    }
    mapped_file(mapped_file&& other) noexcept
        : path_(std::move(other.path_)),
          data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)) {}
    mapped_file& operator=(mapped_file&& other) noexcept {
        std::swap(path_, other.path_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~mapped_file() {
        if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
    }

    const std::filesystem::path& path() const noexcept { return path_; }
    std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

    /// Gives the pages of `part` back to the system; reading them again is correct and costs a fault. Made for a cursor
    /// that goes forward: the page that `part` shares with what follows stays, until that is released. Read in another
    /// order, a fault may map up to a MiB around it again, so release the whole span at the end.
    // promises: part lies in one mapped file; pages of other memory would lose their contents
    static void release(std::span<const std::byte> part) noexcept {
        // Both ends down. The end outwards would drop the page that is read next, and the fault there would map what
        // was just released (measured: all of 512 MB stayed); the begin inwards would leave one page per tensor.
        const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
        const auto begin = reinterpret_cast<std::uintptr_t>(part.data()) / page * page;
        const auto end = reinterpret_cast<std::uintptr_t>(part.data() + part.size()) / page * page;
        if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
    /// Makes the pages of `part` writable for this program alone: each becomes memory of its own when it is first
    /// written, and the file stays as it is. To release a written page is to lose what was written. Throws io_error if
    /// the system does not promise that much memory.
    // promises: part lies in one mapped file
    static std::span<std::byte> make_writable(std::span<const std::byte> part) {
        if (part.empty()) return {};
        auto* const data = const_cast<std::byte*>(part.data());
        const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
        const auto begin = reinterpret_cast<std::uintptr_t>(data) / page * page;
        const auto end = reinterpret_cast<std::uintptr_t>(data + part.size());
        if (::mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE) != 0) {
            throw_io_error("mapped file: " + std::to_string(part.size()) + " bytes of its own memory", errno);
        }
        return {data, part.size()};
    }
    /// Says how the file will be read.
    void advise(access_pattern pattern) const noexcept {
        if (data_ == nullptr) return;
        const int advice = pattern == access_pattern::sequential ? MADV_SEQUENTIAL
                           : pattern == access_pattern::random   ? MADV_RANDOM
                                                                 : MADV_NORMAL;
        ::madvise(const_cast<std::byte*>(data_), size_, advice);
    }
    void will_read_in_order() const noexcept { advise(access_pattern::sequential); }

  private:
    std::filesystem::path path_;
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

/// A file that exists under its final name only when it is complete.
class atomic_file {
  public:
    /// Creates `<path>.partial`, or empties the one that an earlier run left.
    explicit atomic_file(const std::filesystem::path& path)
        : path_(path),
          partial_(path.string() + ".partial"),
          // A link under the temporary name would lead the bytes elsewhere.
          fd_(detail::open_file(partial_, O_WRONLY | O_CREAT | O_NOFOLLOW, 0644)) {
        detail::regular_size(fd_, partial_);
        if (::ftruncate(fd_.get(), 0) != 0) throw_io_error(partial_.string() + ": truncate", errno);
    }
    atomic_file(const atomic_file&) = delete;
    atomic_file& operator=(const atomic_file&) = delete;
    ~atomic_file() {
        if (!committed_ && !keep_) ::unlink(partial_.c_str());
    }

    const std::filesystem::path& path() const noexcept { return path_; }
    const std::filesystem::path& partial_path() const noexcept { return partial_; }
    /// Bytes up to the end.
    std::uint64_t written() const noexcept { return written_; }
    /// Leaves the temporary file behind if it is never committed.
    void keep_partial() noexcept { keep_ = true; }

    /// Appends.
    void write(std::span<const std::byte> bytes) { write_at(written_, bytes); }
    void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

    /// Writes at `offset`; what lies between the end and an offset beyond it reads as zeros.
    void write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
        require_open();
        failed_ = true;  // until the next line has returned
        detail::write_fully(fd_.get(), bytes, offset, partial_);
        failed_ = false;
        written_ = std::max(written_, offset + bytes.size());
    }

    /// Makes the file durable and gives it its final name. Refuses after a failed write, also when that was caught.
    void commit() {
        require_open();
        failed_ = true;
        if (::fsync(fd_.get()) != 0) throw_io_error(partial_.string() + ": fsync", errno);
        if (fd_.close() != 0) throw_io_error(partial_.string() + ": close", errno);
        if (::rename(partial_.c_str(), path_.c_str()) != 0) throw_io_error(path_.string() + ": rename", errno);
        committed_ = true;
        const auto folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
        const detail::descriptor fd = detail::open_file(folder, O_RDONLY | O_DIRECTORY);
        // Some file systems cannot sync folders and say EINVAL; the rename has happened all the same.
        if (::fsync(fd.get()) != 0 && errno != EINVAL) throw_io_error(folder.string() + ": fsync", errno);
    }

  private:
    void require_open() const {
        if (committed_) throw_io_error(path_.string() + ": expected an open file, found a committed one", EBADF);
        if (failed_) throw_io_error(partial_.string() + ": an earlier write failed", EIO);
    }

    std::filesystem::path path_;
    std::filesystem::path partial_;
    detail::descriptor fd_;
    std::uint64_t written_ = 0;
    bool committed_ = false;
    bool failed_ = false;
    bool keep_ = false;
};

/// The whole of a small file; throws io_error, or format_error if it holds more than `limit` bytes.
inline std::string read_text_file(const std::filesystem::path& path, std::size_t limit = std::size_t{64} << 20) {
    const mapped_file file(path);
    HLWQ_EXPECTS(file.bytes().size() <= limit, format_error, path.string() + ": size",
                 "at most " + hlwq::detail::to_text(limit) + " bytes", file.bytes().size());
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

/// Writes a small file whole or not at all.
inline void write_text_atomically(const std::filesystem::path& path, std::string_view text) {
    atomic_file file(path);
    file.write(text);
    file.commit();
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq::io
