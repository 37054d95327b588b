// Any bytes are either refused with a format_error or are tensors that tile the data, and whose header, written anew,
// reads back the same.

#include "hlwq/io/safetensors.hpp"
#include "hlwq/io/safetensors_writer.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {

namespace st = hlwq::safetensors;

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "safetensors_header: %s\n", what);
    std::abort();
}

void check(const st::header& header, std::span<const std::byte> file) {
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), 8);
    const std::byte* at = file.data() + 8 + length;
    std::vector<st::planned_tensor> planned;
    for (const auto& tensor : header.tensors) {
        require(tensor.bytes.data() == at, "a tensor does not begin where the one before it ends");
        require(!tensor.name.empty(), "a tensor has no name");
        require(st::byte_count({tensor.name, tensor.type, tensor.shape}) == tensor.bytes.size(),
                "a tensor has another size than its shape");
        at += tensor.bytes.size();
        planned.push_back({tensor.name, tensor.type, tensor.shape});
    }
    require(at == file.data() + file.size(), "the tensors do not end with the file");

    std::string again = st::header_bytes(planned, header.metadata);
    again.append(reinterpret_cast<const char*>(file.data()) + 8 + length, file.size() - 8 - length);
    const auto copy = st::parse_header(std::as_bytes(std::span(std::as_const(again))), "copy");
    require(copy.metadata == header.metadata, "the metadata changed");
    require(copy.tensors.size() == header.tensors.size(), "the number of tensors changed");
    for (std::size_t i = 0; i < planned.size(); ++i) {
        const auto &one = header.tensors[i], &other = copy.tensors[i];
        require(one.name == other.name && one.type == other.type && one.shape == other.shape, "a tensor changed");
        require(std::ranges::equal(one.bytes, other.bytes), "bytes changed");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // A copy of its own, so that the byte behind it belongs to nobody.
    const auto copy = std::make_unique<std::byte[]>(size);
    if (size != 0) std::memcpy(copy.get(), data, size);
    const std::span<const std::byte> file(copy.get(), size);
    st::header header;
    try {
        header = st::parse_header(file, "input");
    } catch (const hlwq::format_error&) {
        return 0;
    }
    check(header, file);
    return 0;
}
