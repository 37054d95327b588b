#include "hlwq/io/safetensors.hpp"
#include "hlwq/io/safetensors_writer.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
namespace st = hlwq::safetensors;
using st::dtype;

class scratch_folder {
  public:
    scratch_folder() {
        std::string pattern = (fs::temp_directory_path() / "hlwq_safetensors.XXXXXX").string();
        REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        path_ = pattern;
    }
    scratch_folder(const scratch_folder&) = delete;
    scratch_folder& operator=(const scratch_folder&) = delete;
    ~scratch_folder() { fs::remove_all(path_); }
    fs::path operator/(const std::string& name) const { return path_ / name; }
    const fs::path& path() const { return path_; }

  private:
    fs::path path_;
};

std::string file_of(std::string_view json, std::size_t data_bytes, std::uint64_t extra_length = 0) {
    const std::uint64_t length = json.size() + extra_length;
    std::string file(8, '\0');
    std::memcpy(file.data(), &length, 8);
    return file + std::string(json) + std::string(data_bytes, 'd');
}

/// Parses a copy whose end is the end of its allocation, so that a sanitizer sees a byte too many.
st::header parse(const std::string& file) {
    // Kept for the whole program: the result points into it.
    static std::vector<std::unique_ptr<std::byte[]>> copies;
    copies.push_back(std::make_unique<std::byte[]>(file.size()));
    std::memcpy(copies.back().get(), file.data(), file.size());
    return st::parse_header({copies.back().get(), file.size()}, "f");
}

/// The message of the format_error for this file; empty if it is accepted.
std::string refusal(const std::string& file) {
    try {
        parse(file);
    } catch (const hlwq::format_error& error) {
        const std::string text = error.what();
        const std::string prefix = "safetensors header of f: ";
        CHECK_MESSAGE(text.starts_with(prefix), text);
        CHECK_MESSAGE(text.find('\n') == std::string::npos, text);
        return text.substr(std::min(prefix.size(), text.size()));
    }
    return "";
}
std::string refusal(std::string_view json, std::size_t data_bytes) { return refusal(file_of(json, data_bytes)); }

std::string message_of(const auto& f) {
    try {
        f();
    } catch (const hlwq::error& error) {
        return error.what();
    }
    return "";
}

void put(const fs::path& path, std::string_view text) {
    std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

/// A file with U8 tensors of one byte each.
void put_tensors(const fs::path& path, const std::vector<std::string>& names) {
    std::vector<st::planned_tensor> tensors;
    for (const auto& name : names) tensors.push_back({name, dtype::u8, {1}});
    st::writer out(path, tensors);
    out.append(bytes_of(std::string(names.size(), 'x')));
    out.finish();
}

const std::string two_tensors =
    file_of(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},)"
            R"("a":{"dtype":"I32","shape":[],"data_offsets":[0,4]}})",
            16);

}  // namespace

TEST_CASE("a header becomes tensors in the order of their data") {
    const auto header = parse(two_tensors);
    REQUIRE(header.tensors.size() == 2);
    CHECK(header.tensors[0].name == "a");
    CHECK(header.tensors[0].type == dtype::i32);
    CHECK(header.tensors[0].shape.empty());
    CHECK(header.tensors[0].bytes.size() == 4);
    CHECK(header.tensors[1].name == "b");
    CHECK(header.tensors[1].shape == std::vector<std::uint64_t>{2, 3});
    CHECK(header.tensors[1].bytes.data() == header.tensors[0].bytes.data() + 4);
    CHECK(header.metadata == std::map<std::string, std::string>{{"format", "pt"}});
    CHECK(parse(file_of("{}  ", 0)).tensors.empty());
}

TEST_CASE("every truncation is refused") {
    for (std::size_t length = 0; length < two_tensors.size(); ++length) {
        CHECK_MESSAGE(!refusal(two_tensors.substr(0, length)).empty(), length);
    }
    CHECK(refusal(two_tensors).empty());
    CHECK(refusal("1234567") == "expected at least 8 bytes, found 7");
}

TEST_CASE("every changed byte of a header is refused or gives tensors inside the file") {
    const std::size_t header_end = two_tensors.size() - 16;
    std::size_t accepted = 0;
    for (std::size_t at = 0; at < header_end; ++at) {
        for (const unsigned flip : {0x01u, 0x02u, 0x10u, 0x20u, 0x80u, 0xffu}) {
            std::string file = two_tensors;
            file[at] = static_cast<char>(static_cast<unsigned char>(file[at]) ^ flip);
            if (!refusal(file).empty()) continue;
            ++accepted;
            std::size_t bytes = 0;
            for (const auto& tensor : parse(file).tensors) bytes += tensor.bytes.size();
            CHECK(bytes == 16);
        }
    }
    CHECK(accepted > 0);  // other letters in names
}

TEST_CASE("a length beyond the file or the limit is refused") {
    CHECK(refusal(file_of("{}", 0, 1)) == "length of the header: expected at most 2, found 3");
    CHECK(refusal(file_of("{}", 0, ~std::uint64_t{0} - 2)) ==
          "length of the header: expected at most 2, found 18446744073709551615");
    CHECK(refusal(file_of("{}", 0, ~std::uint64_t{0} - 8)).find("expected at most 2") != std::string::npos);
    CHECK(refusal(file_of(std::string(100'000'001, ' '), 0)) ==
          "length of the header: expected at most 100000000, found 100000001");
}

TEST_CASE("what is not one JSON object in UTF-8 is refused") {
    CHECK(refusal("", 0) == "the JSON: expected '{' at its first byte, found none");
    for (const char* json : {" {}", "[]", "null", "5", "\"a\"", "\xef\xbb\xbf{}"}) {
        CHECK_MESSAGE(refusal(json, 0) == "the JSON: expected '{' at its first byte, found none", json);
    }
    for (const char* json : {"{", "{}{}", "{} x", "{,}", R"({"a"})", R"({"a":})", "{/**/}", "{\x01}",
                             R"({"a":{"dtype":"U8","shape":[01],"data_offsets":[0,1]}})", R"({"\ud800":{}})"}) {
        CHECK_MESSAGE(refusal(json, 0).starts_with("expected JSON in UTF-8, found a syntax error at byte "), json);
    }
    // The JSON parser takes a zero byte for the end.
    CHECK(refusal(std::string("{}\0", 3), 0) == "expected JSON in UTF-8, found a zero byte at byte 2 of it");
    CHECK(refusal(std::string("{}\0hidden", 9), 0) == "expected JSON in UTF-8, found a zero byte at byte 2 of it");
    for (const char* name : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3"}) {
        const std::string json = std::string("{\"") + name + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
        CHECK(refusal(json, 1).starts_with("expected JSON in UTF-8, found bytes that are not UTF-8 at byte "));
    }
    CHECK(refusal("{\"\xe5\x90\x8d\":"
                  R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                  1)
              .empty());
}

TEST_CASE("nesting of any depth is refused at its first unexpected level") {
    const std::string deep(5'000'000, '[');
    CHECK(refusal("{\"a\":" + deep, 0) == "'a': expected an object, found an array");
    CHECK(refusal("{\"a\":{\"shape\":" + deep, 0) ==
          "tensor 'a', 'shape': expected non-negative integers, found an array");
    std::string objects;
    for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
    CHECK(refusal(objects, 0) == "tensor 'a': expected dtype, shape and data_offsets, found key 'a'");
    CHECK(refusal(R"({"__metadata__":{"a":{"a":{}}}})", 0) ==
          "'__metadata__', 'a': expected a string, found an object");
}

TEST_CASE("keys that come twice are refused, inside a tensor too") {
    const std::string a = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    CHECK(refusal("{" + a + "," + a + "}", 0) == "tensor 'a': expected once, found twice");
    CHECK(refusal(R"({"\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)" + a + "}", 0) ==
          "tensor 'a': expected once, found twice");
    CHECK(refusal(R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0) ==
          "tensor 'a', 'dtype': expected once, found twice");
    CHECK(refusal(R"({"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}})", 0) ==
          "tensor 'a', 'shape': expected once, found twice");
    CHECK(refusal(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]}})", 0) ==
          "tensor 'a', 'data_offsets': expected once, found twice");
    CHECK(refusal(R"({"__metadata__":{},"__metadata__":{}})", 0) == "'__metadata__': expected once, found twice");
    CHECK(refusal(R"({"__metadata__":{"k":"1","k":"2"}})", 0) == "'__metadata__', 'k': expected once, found twice");
}

TEST_CASE("an entry has a name and exactly its three keys") {
    CHECK(refusal(R"({"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0) ==
          "tensor names: expected text, found an empty name");
    CHECK(refusal(R"({"a":{}})", 0) == "tensor 'a': expected dtype, shape and data_offsets, found no dtype");
    CHECK(refusal(R"({"a":{"dtype":"U8","data_offsets":[0,0]}})", 0) ==
          "tensor 'a': expected dtype, shape and data_offsets, found no shape");
    CHECK(refusal(R"({"a":{"dtype":"U8","shape":[0]}})", 0) ==
          "tensor 'a': expected dtype, shape and data_offsets, found no data_offsets");
    CHECK(refusal(R"({"a":{"strides":[1]}})", 0) ==
          "tensor 'a': expected dtype, shape and data_offsets, found key 'strides'");
    CHECK(refusal(R"({"a":5})", 0) == "'a': expected an object, found a number");
    CHECK(refusal(R"({"a\n\u007f":null})", 0) ==
          "'a?"
          "?': expected an object, found null");
    CHECK(refusal("{\"" + std::string(5000, 'n') + "\":true}", 0) ==
          "'" + std::string(120, 'n') + "...': expected an object, found a boolean");
}

TEST_CASE("metadata is a map from text to text") {
    const std::string a = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)";
    CHECK(refusal(R"({"__metadata__":[]})", 0) == "'__metadata__': expected an object, found an array");
    CHECK(refusal("{" + a + R"("__metadata__":"x"})", 0) == "'__metadata__': expected an object, found a string");
    CHECK(refusal("{" + a + R"("__metadata__":{"k":1}})", 0) ==
          "'__metadata__', 'k': expected a string, found a number");
    CHECK(refusal(R"({"__metadata__":{"k":null}})", 0) == "'__metadata__', 'k': expected a string, found null");
}

TEST_CASE("dtypes are those of the format") {
    for (const char* type : {"F13", "", "u8", "BF16 ", "U8\\u0000", "F128"}) {
        const std::string json = std::string(R"({"a":{"dtype":")") + type + R"(","shape":[0],"data_offsets":[0,0]}})";
        CHECK(refusal(json, 0).starts_with("tensor 'a', dtype: expected one of the format's types, found '"));
    }
    CHECK(refusal(R"({"a":{"dtype":5,"shape":[0],"data_offsets":[0,0]}})", 0) ==
          "tensor 'a', 'dtype': expected a string, found a number");
    CHECK(refusal(R"({"a":{"dtype":["U8"],"shape":[0],"data_offsets":[0,0]}})", 0) ==
          "tensor 'a', 'dtype': expected a string, found an array");
    for (const auto& entry : st::detail::dtype_table) {
        CHECK(st::parse_dtype(entry.name) == entry.type);
        CHECK(st::dtype_name(entry.type) == entry.name);
        CHECK(st::dtype_size(entry.type) == entry.size);
    }
}

TEST_CASE("a shape is a list of non-negative integers") {
    const auto shape = [](const std::string& text) {
        return refusal(R"({"a":{"dtype":"U8","shape":)" + text + R"(,"data_offsets":[0,1]}})", 1);
    };
    const std::string start = "tensor 'a', 'shape': expected ";
    CHECK(shape("[1]").empty());
    CHECK(shape("1") == start + "a list, found a number");
    CHECK(shape("{}") == start + "a list, found an object");
    CHECK(shape("null") == start + "a list, found null");
    CHECK(shape("\"[1]\"") == start + "a list, found a string");
    CHECK(shape("[-1]") == start + "non-negative integers, found a negative number");
    CHECK(shape("[-0]") == start + "non-negative integers, found a negative number");
    CHECK(shape("[1.0]") == start + "non-negative integers, found a fraction or a number beyond 64 bits");
    CHECK(shape("[1e0]") == start + "non-negative integers, found a fraction or a number beyond 64 bits");
    CHECK(shape("[18446744073709551616]") ==
          start + "non-negative integers, found a fraction or a number beyond 64 bits");
    CHECK(shape("[\"1\"]") == start + "non-negative integers, found a string");
    CHECK(shape("[true]") == start + "non-negative integers, found a boolean");
    std::string ones = "[1";
    for (int i = 1; i < 64; ++i) ones += ",1";
    CHECK(shape(ones + "]").empty());
    CHECK(shape(ones + ",1]") == start + "at most 64 numbers, found more");
}

TEST_CASE("sizes beyond 64 bits are refused, zeros elsewhere in the shape or not") {
    const auto shape = [](const char* type, const char* text) {
        return refusal(std::string(R"({"a":{"dtype":")") + type + R"(","shape":)" + text + R"(,"data_offsets":[0,0]}})",
                       0);
    };
    const std::string start = "tensor 'a', shape: expected a size within 64 bits, found ";
    CHECK(shape("U8", "[4294967296,4294967296]") == start + "U8 [4294967296, 4294967296]");
    CHECK(shape("F64", "[2305843009213693952]") == start + "F64 [2305843009213693952]");
    CHECK(shape("U8", "[0,4294967296,4294967296]") == start + "U8 [0, 4294967296, 4294967296]");
    CHECK(shape("U8", "[4294967296,4294967296,0]") == start + "U8 [4294967296, 4294967296, 0]");
    CHECK(shape("U8", "[4294967296,0]").empty());
}

TEST_CASE("bytes agree with dtype and shape") {
    const auto offsets = [](const std::string& text) {
        return refusal(R"({"a":{"dtype":"F16","shape":[2],"data_offsets":)" + text + "}}", 4);
    };
    CHECK(offsets("[0,4]").empty());
    CHECK(offsets("[0,3]") == "tensor 'a': expected 4 bytes for F16 [2], found 3");
    CHECK(offsets("[0,5]") == "tensor 'a', data_offsets: expected a range within 4 bytes of data, found 0 to 5");
    CHECK(offsets("[4,0]") == "tensor 'a', data_offsets: expected a range within 4 bytes of data, found 4 to 0");
    CHECK(offsets("[18446744073709551612,18446744073709551615]").find("found 18446744073709551612 to") !=
          std::string::npos);
    CHECK(offsets("[0]") == "tensor 'a', data_offsets: expected 2 numbers, found 1");
    CHECK(offsets("[0,2,4]") == "tensor 'a', data_offsets: expected 2 numbers, found 3");
    CHECK(offsets("[]") == "tensor 'a', data_offsets: expected 2 numbers, found 0");
    CHECK(offsets("[0,-4]") == "tensor 'a', 'data_offsets': expected non-negative integers, found a negative number");
    CHECK(offsets("7") == "tensor 'a', 'data_offsets': expected a list, found a number");
}

TEST_CASE("tensors tile the data: no gap, no overlap, nothing behind") {
    const auto two = [](int begin_a, int end_a, int begin_b, int end_b, std::size_t data) {
        const auto entry = [](const char* name, int begin, int end) {
            return "\"" + std::string(name) + R"(":{"dtype":"U8","shape":[)" + std::to_string(end - begin) +
                   R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(end) + "]}";
        };
        return refusal("{" + entry("a", begin_a, end_a) + "," + entry("b", begin_b, end_b) + "}", data);
    };
    CHECK(two(0, 4, 4, 8, 8).empty());
    CHECK(two(4, 8, 0, 4, 8).empty());
    CHECK(two(0, 4, 3, 8, 8) == "tensor 'b': expected its data at byte 4, found 3 (overlap)");
    CHECK(two(0, 8, 2, 4, 8) == "tensor 'b': expected its data at byte 8, found 2 (overlap)");
    CHECK(two(0, 4, 0, 4, 4) == "tensor 'b': expected its data at byte 4, found 0 (overlap)");
    CHECK(two(0, 4, 5, 8, 8) == "tensor 'b': expected its data at byte 4, found 5 (gap)");
    CHECK(two(1, 4, 4, 8, 8) == "tensor 'a': expected its data at byte 0, found 1 (gap)");
    CHECK(two(0, 4, 4, 8, 9) == "expected 8 bytes of data, found 9");
    CHECK(two(0, 4, 4, 4, 4).empty());
    CHECK(two(0, 4, 0, 0, 4).empty());
    CHECK(two(0, 4, 2, 2, 4) == "tensor 'b': expected its data at byte 4, found 2 (overlap)");
    CHECK(refusal("{}", 1) == "expected 0 bytes of data, found 1");
}

TEST_CASE("round trip of every dtype, of empty tensors and of scalars") {
    const scratch_folder folder;
    std::vector<st::planned_tensor> planned;
    std::string data;
    for (const auto& entry : st::detail::dtype_table) {
        planned.push_back({"t." + std::string(entry.name), entry.type, {3, 2}});
        planned.push_back({"empty." + std::string(entry.name), entry.type, {3, 0, 2}});
        planned.push_back({"scalar." + std::string(entry.name), entry.type, {}});
        for (std::size_t i = 0; i < 7 * entry.size; ++i) data += static_cast<char>(data.size() * 31);
    }
    planned.push_back({"name \"with\" \\ \n \xe5\x90\x8d", dtype::u8, {0}});
    const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"\"k\"", "\t"}};
    std::string first_file;
    std::uint64_t first_sum = 0;
    for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{64}, data.size()}) {
        st::writer out(folder / "a.safetensors", planned, metadata);
        CHECK(out.current() == "t.BOOL");
        for (std::size_t at = 0; at < data.size(); at += piece) {
            out.append(bytes_of(std::string_view(data).substr(at, piece)));
        }
        CHECK(out.current().empty());
        out.finish();
        const std::string file = hlwq::io::read_text_file(folder / "a.safetensors");
        CHECK(out.written() == file.size());
        hlwq::io::xxh64 sum;
        sum.update(bytes_of(file));
        CHECK(out.checksum() == sum.digest());
        if (first_file.empty()) {
            first_file = file;
            first_sum = out.checksum();
        }
        CHECK(file == first_file);
        CHECK(out.checksum() == first_sum);
    }
    std::uint64_t header_length = 0;
    std::memcpy(&header_length, first_file.data(), 8);
    CHECK(header_length % 8 == 0);

    const st::reader in(folder / "a.safetensors");
    REQUIRE(in.tensors().size() == planned.size());
    CHECK(in.metadata() == metadata);
    CHECK(in.source() == "a.safetensors");
    std::map<const std::byte*, std::string> by_address;
    for (const auto& tensor : planned) {
        const auto* found = in.find(tensor.name);
        REQUIRE(found != nullptr);
        CHECK(found->type == tensor.type);
        CHECK(found->shape == tensor.shape);
        CHECK(found->bytes.size() == st::byte_count(tensor));
        if (!found->bytes.empty()) by_address[found->bytes.data()] = text_of(found->bytes);
    }
    std::string all;
    for (const auto& [address, text] : by_address) all += text;
    CHECK(all == data);
    CHECK(in.find("t.F13") == nullptr);
    in.release(in.tensors()[0].bytes);
    CHECK(text_of(in.tensors()[0].bytes) == data.substr(0, in.tensors()[0].bytes.size()));
}

TEST_CASE("a reader over memory") {
    const st::reader in(bytes_of(two_tensors), "memory");
    CHECK(in.find("b")->bytes.size() == 12);
    CHECK(in.file().bytes().empty());
    in.release(in.find("b")->bytes);  // must not touch pages that are not a file's
    CHECK(text_of(in.find("b")->bytes) == std::string(12, 'd'));
    CHECK(message_of([] { st::reader(bytes_of("12345678"), "memory"); }).starts_with("safetensors header of memory: "));
}

TEST_CASE("a writer refuses a list that no reader would accept, before it creates a file") {
    const scratch_folder folder;
    const auto refused = [&](std::vector<st::planned_tensor> tensors) {
        const std::string message = message_of([&] { st::writer(folder / "a", tensors); });
        CHECK(fs::is_empty(folder.path()));
        return message;
    };
    CHECK(refused({{"a", dtype::u8, {1}}, {"a", dtype::u8, {1}}}) == "tensor 'a': expected one, found two");
    CHECK(refused({{"", dtype::u8, {1}}}) == "tensor names: expected a name of its own, found ''");
    CHECK(refused({{"__metadata__", dtype::u8, {1}}}).starts_with("tensor names: expected a name of its own"));
    CHECK(refused({{"\xff", dtype::u8, {1}}}).find("expected UTF-8, found other bytes") != std::string::npos);
    CHECK(refused({{"a", dtype::u8, std::vector<std::uint64_t>(65, 1)}}) ==
          "dimensions of 'a': expected at most 64, found 65");
    const std::uint64_t half = std::uint64_t{1} << 63;
    CHECK(refused({{"a", dtype::f16, {half}}}) ==
          "tensor a: expected a size within 64 bits, found F16 [9223372036854775808]");
    CHECK(refused({{"a", dtype::u8, {half}}, {"b", dtype::u8, {half}}}) ==
          "end of tensor 'b': expected within 64 bits, found more");
    CHECK_THROWS_AS(st::plan_shards({{"a", dtype::u8, {1}}, {"a", dtype::u8, {1}}}), hlwq::shape_error);
}

TEST_CASE("a writer counts bytes, and leaves no file when they do not add up") {
    const scratch_folder folder;
    const fs::path path = folder / "a.safetensors";
    const std::vector<st::planned_tensor> planned = {
        {"a", dtype::f16, {2}}, {"none", dtype::f16, {0}}, {"b", dtype::u8, {3}}};
    {
        st::writer out(path, planned);
        out.append("a", bytes_of("12"));
        CHECK(message_of([&] { out.append("b", bytes_of("1")); }) ==
              path.string() + ": next tensor: expected a, found b");
        CHECK(message_of([&] { out.append("a", bytes_of("345")); }) ==
              path.string() + ": bytes of a: expected at most 2 more, found 3");
        CHECK(message_of([&] { out.finish(); }) == path.string() + ": tensor a: expected 2 more bytes, found the end");
        out.append("a", bytes_of("34"));
        out.append("none", {});
        CHECK(out.current() == "b");
        out.append(bytes_of("567"));
        CHECK(message_of([&] { out.append(bytes_of("8")); }) == path.string() + ": expected no more bytes, found 1");
        CHECK(!fs::exists(path));
    }
    CHECK(fs::is_empty(folder.path()));
    {
        st::writer out(path, planned);
        out.append(bytes_of("1234567"));
        out.finish();
    }
    CHECK(text_of(st::reader(path).find("b")->bytes) == "567");
    {
        st::writer out(folder / "nothing.safetensors", {}, {});
        out.finish();
    }
    CHECK(hlwq::io::read_text_file(folder / "nothing.safetensors") == file_of("{}      ", 0));
}

TEST_CASE("shards: order, limits, names, index") {
    const std::vector<st::planned_tensor> planned = {{"c", dtype::u8, {6}},
                                                     {"a", dtype::u8, {4}},
                                                     {"b", dtype::u8, {1}},
                                                     {"large", dtype::u8, {50}},
                                                     {"d", dtype::u8, {1}}};
    const auto one = st::plan_shards(planned, 62);
    REQUIRE(one.size() == 1);
    CHECK(one[0].file == "model.safetensors");
    const auto shards = st::plan_shards(planned, 10);
    REQUIRE(shards.size() == 4);
    const std::vector<std::vector<std::string>> expected = {{"c", "a"}, {"b"}, {"large"}, {"d"}};
    for (std::size_t i = 0; i < shards.size(); ++i) {
        std::vector<std::string> names;
        for (const auto& tensor : shards[i].tensors) names.push_back(tensor.name);
        CHECK(names == expected[i]);
        CHECK(shards[i].file == "model-0000" + std::to_string(i + 1) + "-of-00004.safetensors");
    }
    const auto index = st::index_of(shards);
    CHECK(index.total_size == 62);
    CHECK(index.weight_map.at("large") == "model-00003-of-00004.safetensors");

    const scratch_folder folder;
    st::write_index(folder / "model.safetensors.index.json", index);
    const auto back = st::read_index(folder / "model.safetensors.index.json");
    CHECK(back.weight_map == index.weight_map);
    CHECK(back.total_size == 62);
    CHECK_THROWS_AS(st::write_index(folder / "i", {{{"\xff", "s"}}, 0}), hlwq::shape_error);
}

TEST_CASE("an index that cannot be meant is refused") {
    const scratch_folder folder;
    const auto refused = [&](std::string_view text) {
        put(folder / "i", text);
        const std::string message = message_of([&] { st::read_index(folder / "i"); });
        const std::string prefix = "shard index i: ";
        CHECK_MESSAGE((message.empty() || message.starts_with(prefix)), message);
        return message.empty() ? message : message.substr(prefix.size());
    };
    CHECK(refused(R"({"weight_map":{"a":"s"}})").empty());
    CHECK(refused(R"({"metadata":{"total_size":1.5,"x":[[{}],null]},"weight_map":{"a":"s"},"other":true})").empty());
    CHECK(refused("").starts_with("expected JSON in UTF-8, found a syntax error"));
    CHECK(refused("{\"weight_map\":{\"\xff\":\"s\"}}").starts_with("expected JSON in UTF-8, found bytes that are not"));
    CHECK(refused({"{\"weight_map\":{}}\0x", 19}) == "expected JSON in UTF-8, found a zero byte at byte 17 of it");
    CHECK(refused("[]") == "the JSON: expected an object, found an array");
    CHECK(refused("{}") == "expected an object 'weight_map', found none");
    CHECK(refused(R"({"weight_map":[]})") == "'weight_map': expected an object, found an array");
    CHECK(refused(R"({"weight_map":{},"weight_map":{}})") == "'weight_map': expected once, found twice");
    CHECK(refused(R"({"weight_map":{"a":"s","a":"t"}})") ==
          "shard of tensor 'a': expected one shard, found 's' and 't'");
    for (const char* name : {"", ".", "..", "/etc/passwd", "../s", "d/s", "d\\\\s", "s\\u0000"}) {
        CHECK(refused(std::string(R"({"weight_map":{"a":")") + name + "\"}}")
                  .starts_with("shard of tensor 'a': expected a plain file name, found '"));
    }
    for (const char* value : {"1", "-1", "1.5", "null", "true", "[]", "{}"}) {
        CHECK(refused(std::string(R"({"weight_map":{"a":)") + value + "}}")
                  .starts_with("shard of tensor 'a': expected a plain file name, found "));
    }
    const std::string deep(1'000'000, '[');
    CHECK(refused("{\"metadata\":" + deep) == "the JSON: expected at most 64 levels, found more");
}

TEST_CASE("a folder is opened by its index, its one model file, or all its files") {
    const scratch_folder folder;
    CHECK(message_of([&] { st::sharded_reader(folder / "none"); }).find("not a directory") != std::string::npos);
    CHECK(message_of([&] { st::sharded_reader(folder.path()); }).find("expected *.safetensors, found none") !=
          std::string::npos);
    put_tensors(folder / "y.safetensors", {"b", "a"});
    put_tensors(folder / "x.safetensors", {"c"});
    put(folder / "notes.txt", "no tensors");
    {
        const st::sharded_reader all(folder.path());
        REQUIRE(all.shards().size() == 2);
        REQUIRE(all.tensors().size() == 3);
        CHECK(all.tensors()[0].tensor->name == "c");
        CHECK(all.tensors()[1].tensor->name == "b");
        CHECK(all.shards()[all.tensors()[2].shard].source() == "y.safetensors");
        CHECK(all.find("a") == all.tensors()[2].tensor);
        CHECK(all.find("d") == nullptr);
    }
    put_tensors(folder / "z.safetensors", {"a"});
    CHECK(message_of([&] { st::sharded_reader(folder.path()); }) ==
          "tensor 'a': expected in one file, found in y.safetensors and z.safetensors");
    put_tensors(folder / "model.safetensors", {"m"});
    CHECK(st::sharded_reader(folder.path()).tensors().size() == 1);

    const fs::path index = folder / "model.safetensors.index.json";
    put(index, R"({"weight_map":{"a":"y.safetensors","b":"y.safetensors","c":"x.safetensors"}})");
    CHECK(st::sharded_reader(folder.path()).tensors().size() == 3);
    put(index, R"({"weight_map":{"a":"y.safetensors","b":"y.safetensors","c":"y.safetensors"}})");
    CHECK(message_of([&] { st::sharded_reader(folder.path()); }) ==
          "shard index: tensor 'c': expected in y.safetensors, found nowhere");
    put(index, R"({"weight_map":{"a":"y.safetensors","b":"x.safetensors","c":"x.safetensors"}})");
    CHECK(message_of([&] { st::sharded_reader(folder.path()); }) ==
          "shard index: tensor 'b': expected in x.safetensors, found in y.safetensors");
    put(index, R"({"weight_map":{"a":"y.safetensors","c":"x.safetensors"}})");
    CHECK(message_of([&] { st::sharded_reader(folder.path()); }) ==
          "shard index: tensor 'b' of y.safetensors: expected in the index, found no entry");
    put(index, R"({"weight_map":{"a":"y.safetensors","b":"y.safetensors","c":"missing.safetensors"}})");
    CHECK(message_of([&] { st::sharded_reader(folder.path()); }) ==
          (folder / "missing.safetensors").string() + ": No such file or directory");
    fs::remove(index);
    fs::create_symlink(folder / "gone", index);
    CHECK(message_of([&] { st::sharded_reader(folder.path()); }) == index.string() + ": No such file or directory");
}

TEST_CASE("offsets beyond 4 GiB") {
    const scratch_folder folder;
    const std::uint64_t large = 5'000'000'000;
    if (fs::space(folder.path()).available < 2 * large) {
        MESSAGE("skipped: needs 10 GB of free space, although the file is sparse");
        return;
    }
    const std::string json = R"({"large":{"dtype":"U8","shape":[5000000000],"data_offsets":[0,5000000000]},)"
                             R"("last":{"dtype":"U8","shape":[3],"data_offsets":[5000000000,5000000003]}})";
    {
        hlwq::io::atomic_file file(folder / "model.safetensors");
        file.write(file_of(json, 0));
        file.write_at(file.written() + large, bytes_of("end"));
        file.commit();
    }
    const st::sharded_reader in(folder.path());
    CHECK(in.find("large")->bytes.size() == large);
    CHECK(text_of(in.find("last")->bytes) == "end");
    CHECK(in.find("last")->bytes.data() == in.find("large")->bytes.data() + large);
}
