// Whatever the files of a checkpoint hold, opening it ends with a reader whose matrices can be decoded, or an
// hlwq::error.
//
// Input: length of polar_config.json (16 bits, little-endian), its text, length and text of config.json likewise, then
// one safetensors file. Seeds: make_checkpoint_corpus.py.
#include "hlwq/io/checkpoint.hpp"
#include "hlwq/io/recipe.hpp"
#include "hlwq/quantize.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

std::string_view take_text(std::span<const std::uint8_t>& input) {
    if (input.size() < 2) return {};
    const std::size_t asked = input[0] + 256u * input[1];
    input = input.subspan(2);
    const std::size_t size = asked < input.size() ? asked : input.size();
    const std::string_view text(reinterpret_cast<const char*>(input.data()), size);
    input = input.subspan(size);
    return text;
}

void read(std::span<const std::uint8_t> input) {
    const std::string_view polar = take_text(input), config = take_text(input);
    // Memory of its own, so that a sanitizer sees every read beyond it.
    const std::vector<std::uint8_t> copy(input.begin(), input.end());
    const hlwq::checkpoint::memory_file files[] = {{"fuzz.safetensors", std::as_bytes(std::span(copy))}};
    const hlwq::checkpoint::reader model(files, polar, config);
    const hlwq::checkpoint::recipe recipe;
    for (const auto& t : model.tensors()) {
        (void)recipe.decide(t.name, t.dtype, t.shape);
        (void)hlwq::checkpoint::tensor_kind(t.name);
        if (model.find(t.name) != &t) __builtin_trap();
        if (!t.quantized) continue;
        const auto& w = t.packed;
        if (t.shape != std::vector<std::uint64_t>{w.rows, w.cols} || w.cols == 0 || w.rows == 0) __builtin_trap();
        std::vector<float> values(w.rows * w.cols);
        hlwq::dequantize(w, hlwq::matrix_view<float>(values.data(), w.rows, w.cols));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        read({data, size});
    } catch (const hlwq::error&) {
    }
    return 0;
}
