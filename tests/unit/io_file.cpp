#include "hlwq/io/checksum.hpp"
#include "hlwq/io/file.hpp"

#include <doctest/doctest.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include <sys/resource.h>

namespace {

namespace fs = std::filesystem;
namespace io = hlwq::io;

/// A folder that disappears with the test.
class scratch_folder {
  public:
    scratch_folder() {
        std::string pattern = (fs::temp_directory_path() / "hlwq_io_file.XXXXXX").string();
        REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        path_ = pattern;
    }
    scratch_folder(const scratch_folder&) = delete;
    scratch_folder& operator=(const scratch_folder&) = delete;
    ~scratch_folder() { fs::remove_all(path_); }
    fs::path operator/(const std::string& name) const { return path_ / name; }
    std::size_t files() const {
        std::size_t count = 0;
        for ([[maybe_unused]] const auto& entry : fs::directory_iterator(path_)) ++count;
        return count;
    }

  private:
    fs::path path_;
};

void put(const fs::path& path, std::string_view text) {
    std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

/// errno of the io_error that `f` throws, 0 if it throws nothing; the message must name `path`.
template <class F>
int errno_of(const fs::path& path, F&& f) {
    try {
        f();
    } catch (const hlwq::io_error& error) {
        CHECK_MESSAGE(std::string(error.what()).find(path.string()) != std::string::npos, error.what());
        return error.code();
    }
    return 0;
}

/// Files cannot grow beyond `bytes` while this lives; the refusal is an errno instead of a signal.
class size_limit {
  public:
    explicit size_limit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        REQUIRE(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
        const rlimit now{bytes, before_.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &now) == 0);
    }
    size_limit(const size_limit&) = delete;
    size_limit& operator=(const size_limit&) = delete;
    ~size_limit() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }

  private:
    void (*handler_)(int);
    rlimit before_{};
};

/// Pages of `bytes` that this process holds (mincore would count the system's cache); nothing where that is not told,
/// as in an emulator.
std::optional<std::size_t> resident_pages(std::span<const std::byte> bytes) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const int map = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (map < 0) return std::nullopt;
    const io::detail::descriptor closer(map);
    std::vector<std::uint64_t> entries((bytes.size() + page - 1) / page);
    const auto wanted = static_cast<::ssize_t>(entries.size() * 8);
    const auto offset = static_cast<::off_t>(reinterpret_cast<std::uintptr_t>(bytes.data()) / page * 8);
    if (::pread(map, entries.data(), entries.size() * 8, offset) != wanted) return std::nullopt;
    std::size_t count = 0;
    for (const std::uint64_t entry : entries) count += entry >> 63;
    return count;
}

}  // namespace

TEST_CASE("a mapped file shows its bytes, before and after a move") {
    const scratch_folder folder;
    put(folder / "a", "hello");
    io::mapped_file first(folder / "a");
    CHECK(text_of(first.bytes()) == "hello");
    const auto* address = first.bytes().data();
    io::mapped_file second(std::move(first));
    CHECK(first.bytes().empty());
    CHECK(second.bytes().data() == address);
    put(folder / "b", "other");
    second = io::mapped_file(folder / "b");
    CHECK(text_of(second.bytes()) == "other");
    CHECK(second.path() == folder / "b");
}

TEST_CASE("an empty file is an empty span") {
    const scratch_folder folder;
    put(folder / "empty", "");
    const io::mapped_file file(folder / "empty");
    CHECK(file.bytes().empty());
    io::mapped_file::release(file.bytes());
    file.advise(io::access_pattern::random);
}

TEST_CASE("what is not a regular file is refused, and a pipe is not waited for") {
    const scratch_folder folder;
    CHECK(errno_of(folder / "none", [&] { io::mapped_file(folder / "none"); }) == ENOENT);
    CHECK(errno_of(folder / "", [&] { io::mapped_file(folder / ""); }) == EISDIR);
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    CHECK(errno_of(folder / "pipe", [&] { io::mapped_file(folder / "pipe"); }) == EINVAL);
    CHECK(errno_of("/dev/null", [&] { io::mapped_file("/dev/null"); }) == EINVAL);
    CHECK(errno_of("/dev/null", [&] { io::read_text_file("/dev/null", 10); }) == EINVAL);
}

TEST_CASE("pages behind a cursor are given back and can be read again") {
    const scratch_folder folder;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    std::string text(2048 * page + 100, 'x');
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i % 251);
    put(folder / "a", text);
    const io::mapped_file file(folder / "a");
    CHECK(text_of(file.bytes()) == text);
    if (resident_pages(file.bytes()) != 2049u) {
        MESSAGE("skipped: the system does not tell which pages are resident");
        return;
    }
    // Five pages are touched, the last is shared with what follows. A huge page around them may go as a whole.
    io::mapped_file::release(file.bytes().subspan(page + 10, 4 * page));
    const auto rest = resident_pages(file.bytes()).value_or(0);
    CHECK(rest <= 2045u);
    io::mapped_file::release(file.bytes().subspan(1000 * page + 20, 30));  // within one page: nothing to give
    CHECK(resident_pages(file.bytes()).value_or(0) == rest);
    io::mapped_file::release(file.bytes());
    CHECK(resident_pages(file.bytes()).value_or(0) == 1u);
    for (const auto pattern :
         {io::access_pattern::normal, io::access_pattern::sequential, io::access_pattern::random}) {
        file.advise(pattern);
        // Pieces that do not end at pages, as tensors do. Whatever the read-ahead maps lies before the cursor.
        for (const std::size_t step : {std::size_t{100}, 4 * page - 384, 4 * page, std::size_t{1'000'000}}) {
            for (std::size_t at = 0; at < text.size(); at += step) {
                const auto part = file.bytes().subspan(at, std::min(step, text.size() - at));
                REQUIRE(text_of(part) == std::string_view(text).substr(at, part.size()));
                io::mapped_file::release(part);
            }
            CHECK(resident_pages(file.bytes()).value_or(0) == 1u);
        }
    }
}

TEST_CASE("bytes that were made writable change for the reader and not in the file") {
    const scratch_folder folder;
    const std::string text(100'000, 'a');
    put(folder / "m", text);
    const io::mapped_file file(folder / "m"), other(folder / "m");
    const auto part = file.bytes().subspan(5'000, 20'000);
    const std::span<std::byte> writable = io::mapped_file::make_writable(part);
    CHECK(writable.data() == part.data());
    CHECK(writable.size() == part.size());
    for (std::byte& b : writable) b = std::byte{'b'};
    CHECK(text_of(file.bytes()) == text.substr(0, 5'000) + std::string(20'000, 'b') + text.substr(25'000));
    CHECK(text_of(other.bytes()) == text);
    CHECK(io::read_text_file(folder / "m") == text);
    CHECK(io::mapped_file::make_writable({}).empty());
}

TEST_CASE("a file has its name only after commit") {
    const scratch_folder folder;
    put(folder / "a", "before");
    {
        io::atomic_file file(folder / "a");
        CHECK(file.partial_path() == folder / "a.partial");
        file.write("one ");
        file.write(bytes_of("two"));
        CHECK(file.written() == 7);
        CHECK(io::read_text_file(folder / "a") == "before");
        file.commit();
        CHECK(io::read_text_file(folder / "a") == "one two");
        CHECK(errno_of(folder / "a", [&] { file.write("more"); }) == EBADF);
        CHECK(errno_of(folder / "a", [&] { file.commit(); }) == EBADF);
    }
    CHECK(io::read_text_file(folder / "a") == "one two");
    CHECK(folder.files() == 1);
}

TEST_CASE("a file that is not committed leaves nothing, or its temporary file when asked to") {
    const scratch_folder folder;
    { io::atomic_file(folder / "a").write("text"); }
    CHECK(folder.files() == 0);
    {
        io::atomic_file file(folder / "a");
        file.write("a long text of an earlier run");
        file.keep_partial();
    }
    CHECK(folder.files() == 1);
    CHECK(io::read_text_file(folder / "a.partial") == "a long text of an earlier run");
    io::write_text_atomically(folder / "a", "short");
    CHECK(io::read_text_file(folder / "a") == "short");
    CHECK(folder.files() == 1);
}

TEST_CASE("write_at replaces, extends and leaves zeros") {
    const scratch_folder folder;
    io::atomic_file file(folder / "a");
    file.write("abcdef");
    file.write_at(2, bytes_of("XY"));
    CHECK(file.written() == 6);
    file.write_at(8, bytes_of("Z"));
    file.write("!");
    file.commit();
    CHECK(io::read_text_file(folder / "a") == std::string("abXYef\0\0Z!", 10));
}

TEST_CASE("a name relative to the working folder can be committed") {
    const scratch_folder folder;
    const auto before = fs::current_path();
    fs::current_path(folder / "");
    io::write_text_atomically("plain", "text");
    fs::current_path(before);
    CHECK(io::read_text_file(folder / "plain") == "text");
}

TEST_CASE("a link or a pipe under the temporary name is refused") {
    const scratch_folder folder;
    put(folder / "victim", "precious");
    fs::create_symlink(folder / "victim", folder / "a.partial");
    CHECK(errno_of(folder / "a.partial", [&] { io::atomic_file(folder / "a"); }) == ELOOP);
    CHECK(io::read_text_file(folder / "victim") == "precious");
    REQUIRE(::mkfifo((folder / "b.partial").c_str(), 0600) == 0);
    CHECK(errno_of(folder / "b.partial", [&] { io::atomic_file(folder / "b"); }) == ENXIO);
    CHECK(errno_of(folder / "none", [&] { io::atomic_file(folder / "none" / "a"); }) == ENOENT);
}

TEST_CASE("a write that fails leaves no file, even when the error is caught and commit is tried") {
    const scratch_folder folder;
    put(folder / "a", "before");
    const std::vector<std::byte> bytes(100'000);
    {
        io::atomic_file file(folder / "a");
        {
            const size_limit limit(64 * 1024);
            file.write(std::span(bytes).first(1000));
            CHECK(errno_of(file.partial_path(), [&] { file.write(bytes); }) == EFBIG);
        }
        // The limit is gone, but the file has a hole in its story.
        CHECK(errno_of(file.partial_path(), [&] { file.write(bytes); }) == EIO);
        CHECK(errno_of(file.partial_path(), [&] { file.commit(); }) == EIO);
    }
    CHECK(io::read_text_file(folder / "a") == "before");
    CHECK(folder.files() == 1);
    {
        const size_limit limit(64 * 1024);
        CHECK(errno_of(folder / "b", [&] { io::write_text_atomically(folder / "b", std::string(65 * 1024, 'x')); }) ==
              EFBIG);
    }
    CHECK(folder.files() == 1);
}

TEST_CASE("a full device is an error with its number") {
    const auto fd = io::detail::open_file("/dev/full", O_WRONLY);
    CHECK(errno_of("/dev/full", [&] { io::detail::write_fully(fd.get(), bytes_of("x"), 0, "/dev/full"); }) == ENOSPC);
}

TEST_CASE("a final name that is taken by a folder leaves no temporary file") {
    const scratch_folder folder;
    fs::create_directory(folder / "a");
    CHECK(errno_of(folder / "a", [&] { io::write_text_atomically(folder / "a", "text"); }) == EISDIR);
    CHECK(folder.files() == 1);
}

TEST_CASE("a text file above its limit is refused before it is copied") {
    const scratch_folder folder;
    put(folder / "a", "12345");
    CHECK(io::read_text_file(folder / "a", 5) == "12345");
    CHECK_THROWS_WITH_AS(io::read_text_file(folder / "a", 4),
                         ((folder / "a").string() + ": size: expected at most 4 bytes, found 5").c_str(),
                         hlwq::format_error);
}

TEST_CASE("offsets beyond 4 GiB") {
    const scratch_folder folder;
    const std::uint64_t offset = 5'000'000'000;
    if (fs::space(folder / "").available < 2 * offset) {
        MESSAGE("skipped: needs 10 GB of free space, although the file is sparse");
        return;
    }
    {
        io::atomic_file file(folder / "large");
        file.write_at(offset, bytes_of("end"));
        CHECK(file.written() == offset + 3);
        file.commit();
    }
    const io::mapped_file file(folder / "large");
    REQUIRE(file.bytes().size() == offset + 3);
    CHECK(text_of(file.bytes().subspan(offset)) == "end");
    CHECK(file.bytes()[offset - 1] == std::byte{0});
}

TEST_CASE("XXH64: the sums of the reference implementation's sanity test") {
    // Its buffer: the top byte of a generator that starts at PRIME32 and is multiplied by PRIME64.
    std::vector<std::byte> buffer(222);
    std::uint64_t generator = 2654435761u;
    for (auto& byte : buffer) {
        byte = static_cast<std::byte>(generator >> 56);
        generator *= 11400714785074694797ull;
    }
    const struct {
        std::size_t length;
        std::uint64_t seed, sum;
    } published[] = {{0, 0, 0xef46db3751d8e999},
                     {0, 2654435761u, 0xac75fda2929b17ef},
                     {1, 0, 0xe934a84adb052768},
                     {1, 2654435761u, 0x5014607643a9b4c3},
                     {4, 0, 0x9136a0dca57457ee},
                     {14, 0, 0x8282dcc4994e35c8},
                     {14, 2654435761u, 0xc3bd6bf63deb6df0},
                     {222, 0, 0xb641ae8cb691c174},
                     {222, 2654435761u, 0x20cb8ab7ae10c14a}};
    for (const auto& vector : published) {
        io::xxh64 sum(vector.seed);
        sum.update(std::span(buffer).first(vector.length));
        CHECK(sum.digest() == vector.sum);
    }
    io::xxh64 letters;
    letters.update(bytes_of("abc"));
    CHECK(letters.digest() == 0x44bc2cf5ad770999);
}

TEST_CASE("XXH64: pieces of any size give the sum of the whole") {
    std::vector<std::byte> bytes(300);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
    io::xxh64 whole;
    whole.update(bytes);
    for (std::size_t first = 0; first <= 100; ++first) {
        for (std::size_t second = 0; second <= 100; ++second) {
            io::xxh64 sum;
            sum.update(std::span(bytes).first(first));
            sum.update(std::span(bytes).subspan(first, second));
            sum.update({});
            sum.update(std::span(bytes).subspan(first + second));
            REQUIRE(sum.digest() == whole.digest());
        }
    }
}
